"""The panels of the page: a Python file and a script of the same name a panel."""
