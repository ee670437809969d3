"""The folder of a run and what is written down there while it goes on: metrics, and what was trained on."""
