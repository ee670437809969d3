"""What every schedule is: a pure function of the step, so that resuming needs no state."""

from abc import abstractmethod

from ltrsys.method_section import MethodSection
from ltrsys.registry import Registry


class Schedule(MethodSection):
    """The learning rate over time: the section `train.schedule`."""

    @abstractmethod
    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        """Return what the learning rates are multiplied by at a step.

        Args:
            step: The optimizer step, counted from 0 over all epochs.
            steps_per_epoch: Steps of an epoch.
            epochs: Epochs of the training.
        """


SCHEDULES: Registry[type[Schedule]] = Registry("schedule", "ltrsys.training.schedules")
