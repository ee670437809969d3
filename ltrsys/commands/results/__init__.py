"""What the subcommands for the results of a run do."""
