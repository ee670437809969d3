"""Shards behind a URL in, open files on this node out."""
