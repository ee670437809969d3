"""A dataset as people look at it: figures, tables, pictures."""
