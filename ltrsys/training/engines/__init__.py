"""A micro-batch in, a gradient and then a step out: DeepSpeed and DDP, each a check of the other."""
