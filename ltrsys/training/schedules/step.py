"""The step schedule: the learning rate is divided again and again (OLTR; Liu et al., 2019)."""

from typing import Annotated

from pydantic import Field

from ltrsys.section import Count
from ltrsys.training.schedules.base import SCHEDULES, Schedule


@SCHEDULES.register
class Step(Schedule):
    """`lr` times `gamma` for each `every` epochs that have passed."""

    name = "step"
    summary = "the learning rate times `gamma` after every `every` epochs"
    source = "Liu et al., 2019; torch's StepLR"
    order = 10

    every: Count = 10
    """Epochs between two steps."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1

    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        """Return gamma to the power of the whole `every` epochs that lie before the step."""
        return self.gamma ** (step // steps_per_epoch // self.every)
