"""The section `model` in, a network without its head out: a file a family of networks."""
