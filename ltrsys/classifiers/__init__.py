"""The second stage: the feature bank and the classifiers fitted on it."""
