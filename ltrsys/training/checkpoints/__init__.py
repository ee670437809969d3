"""A run at one moment in, a file out that it goes on from, to the bit."""
