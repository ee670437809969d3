"""Features in, fitted classifiers out, kept as long as nothing that they depend on changes."""
