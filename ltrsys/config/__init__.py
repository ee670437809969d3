"""The schema of an experiment, composed of the sections that stand beside their owners; reading it from files."""
