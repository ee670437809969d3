"""Photographs come in over HTTP, names go out: a page for people, JSON for programs."""
