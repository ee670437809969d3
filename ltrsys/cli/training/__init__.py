"""Subcommands that train and fit: both stages, weights and features from elsewhere, studies."""
