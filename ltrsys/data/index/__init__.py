"""What is known of every image without opening it: the columns and `dataset.json`."""
