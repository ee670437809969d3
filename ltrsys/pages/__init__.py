"""The page of `ltrsys report`: runs in, one HTML file out that works from disk."""
