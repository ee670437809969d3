"""From images on disk to batches on the device: sources, shards, index, plan, reader, pipeline."""
