"""Fitted classifiers in, `results.json` out."""
