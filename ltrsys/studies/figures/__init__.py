"""The key `figure` of a study: a file a kind of picture."""
