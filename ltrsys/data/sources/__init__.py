"""What `ltrsys shards` reads: datasets on disk, and two that need no download."""
