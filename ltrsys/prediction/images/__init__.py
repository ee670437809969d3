"""The images that are to be named: found, read and made into batches."""
