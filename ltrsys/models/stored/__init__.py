"""Weights in files: those of a run, of the paper's code, and of others, and whether they fit a network."""
