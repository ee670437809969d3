"""A run's network with one of its classifiers in, files that run without ltrsys out."""
