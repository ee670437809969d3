"""Runs beside one another, on the same images: what `ltrsys compare` tells."""
