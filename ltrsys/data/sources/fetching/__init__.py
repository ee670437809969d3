"""Images behind URLs, fetched politely and once."""
