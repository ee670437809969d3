"""What is compiled for a CPU."""
