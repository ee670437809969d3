"""The feature bank and the trained classifier in, a re-balanced classifier out: each method is a file."""
