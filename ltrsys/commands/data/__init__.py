"""What the subcommands around a dataset do."""
