"""Long-tailed recognition: train on the data as it is, then re-balance the classifier alone."""

__version__ = "0.2.0"
