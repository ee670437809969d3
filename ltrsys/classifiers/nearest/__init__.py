"""Classifiers that compare a feature with those of the training images, or their means: nothing is trained."""
