"""The first stage: the training loop, its engines, its checkpoints."""
