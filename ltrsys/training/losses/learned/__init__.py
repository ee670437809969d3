"""Losses with parameters of their own: torch modules, apart from the sections, which are read without torch."""
