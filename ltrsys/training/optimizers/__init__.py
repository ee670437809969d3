"""Parameters and their gradients in, an update of the parameters out: a file an optimizer."""
