"""Logits and labels in, the loss of a micro-batch out: a file a loss."""
