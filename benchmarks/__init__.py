"""What measures speed: `python -m benchmarks.NAME [--quick] [--json FILE]`."""
