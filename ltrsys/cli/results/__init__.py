"""Subcommands for what a run has made: names for photographs, a server, files to give away, reports."""
