"""The learning rate over time, as a pure function of the step: resuming needs no state."""

import math

from ltrsys.training.config import ScheduleConfig


def lr_factor(config: ScheduleConfig, *, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return what the learning rates are multiplied by at optimizer step `step`, counted from 0 over all epochs.

    The cosine of Loshchilov & Hutter (2016), without restarts (paper, section 5.1). By epoch, it is evaluated at
    the end of the epoch that is running, as the paper's code does: the last epoch has learning rate 0.
    """
    epoch = step / steps_per_epoch
    if epoch < config.warmup_epochs:
        return epoch / config.warmup_epochs
    if config.step == "epoch":
        epoch = math.floor(epoch) + 1.0
    remaining = epochs - config.warmup_epochs
    progress = min(1.0, (epoch - config.warmup_epochs) / remaining) if remaining > 0 else 1.0
    return 0.5 * (1.0 + math.cos(math.pi * progress))
