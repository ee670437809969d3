"""Checks every image once, keeps what passes, and finds duplicates."""
