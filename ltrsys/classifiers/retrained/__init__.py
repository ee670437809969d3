"""Classifiers that are trained anew on the bank."""
