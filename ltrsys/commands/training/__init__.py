"""What the subcommands that train and fit do."""
