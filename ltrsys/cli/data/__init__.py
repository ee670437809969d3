"""Subcommands around a dataset: build it, look at it, write a first config, check what was drawn of it."""
