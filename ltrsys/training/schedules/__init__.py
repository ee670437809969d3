"""The number of a step in, what the learning rates are multiplied by out: a file a schedule."""
