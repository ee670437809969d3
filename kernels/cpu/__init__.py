"""Checked tensors on a CPU in, the results of an operation out: a module an operation, and what they share."""
