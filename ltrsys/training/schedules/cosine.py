"""The cosine schedule (Loshchilov & Hutter, 2016, without restarts; paper, section 5.1)."""

import math
from typing import Annotated, Literal

from pydantic import Field

from ltrsys.training.schedules.base import SCHEDULES, Schedule


@SCHEDULES.register
class Cosine(Schedule):
    """Cosine from `lr` to 0."""

    name = "cosine"
    summary = "half a cosine from the learning rate to 0"
    source = "Loshchilov and Hutter, 2016; Kang et al., 2020, section 5.1"
    order = 0

    step: Literal["iteration", "epoch"] = "iteration"
    """`epoch` is the paper's code: constant within an epoch, and 0 throughout the last one."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """The learning rate rises linearly from 0 for so long before the cosine."""

    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        """Return the cosine; by epoch, at the end of the epoch that is running, as the paper's code does."""
        epoch = step / steps_per_epoch
        if epoch < self.warmup_epochs:
            return epoch / self.warmup_epochs
        if self.step == "epoch":
            epoch = math.floor(epoch) + 1.0
        remaining = epochs - self.warmup_epochs
        progress = min(1.0, (epoch - self.warmup_epochs) / remaining) if remaining > 0 else 1.0
        return 0.5 * (1.0 + math.cos(math.pi * progress))
