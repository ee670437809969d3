"""Tables with a row an image: CSV, TSV, Parquet, and the presets that join several of them."""
