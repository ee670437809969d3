"""What may go wrong with ranks, signals and losses in; one end of all ranks, with a line that says why, out."""
