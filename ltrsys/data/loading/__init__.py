"""Encoded images in, batches of normalised tensors on the device out."""
