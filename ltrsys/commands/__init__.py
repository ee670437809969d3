"""What a subcommand does, from end to end."""
