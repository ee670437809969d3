"""A run and photographs in, names of classes with their probabilities out."""
