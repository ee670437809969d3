"""What a training is made of: engines, losses, optimizers, schedules, checkpoints, supervision."""
