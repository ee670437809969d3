"""What every sampler is: its settings, and the weight of each class that they give."""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from ltrsys.errors import UsageError
from ltrsys.method_section import MethodSection
from ltrsys.registry import Registry

SCALE = 10**24
"""Irrational weights are rounded to this fraction of one."""


@dataclass(frozen=True)
class ClassWeights:
    """Sampling weights of all classes: p_j = `weights[j]` / sum(`weights`)."""

    weights: list[int]
    """At this epoch."""
    before: list[int]
    """Summed over the epochs before this one, on the same scale: how far sampling has got."""

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """p_j, float64 [num_classes], summing to 1 up to rounding."""
        total = sum(self.weights)
        return np.array([weight / total for weight in self.weights])


class Sampler(MethodSection):
    """How often each class is drawn: the section `data.sampler`."""

    changes_with_epoch: ClassVar[bool] = False
    """Whether `weights` are others in other epochs."""

    @abstractmethod
    def weights_of_classes(self, class_counts: Sequence[int], epoch: int, num_epochs: int) -> Sequence[float]:
        """Return the sampling weight of each class, whole numbers or floating point, of any scale, 0 or more.

        Args:
            class_counts: Training images of each class, [num_classes]. An empty class is never drawn.
            epoch: Counted from 0.
            num_epochs: Epochs of the training.

        Raises:
            UsageError: Where the settings do not fit the classes.
        """

    def class_weights(self, class_counts: list[int], epoch: int, num_epochs: int) -> ClassWeights:
        """Return the weights as whole numbers, at this epoch and summed over those before."""

        def weights(epoch: int) -> list[int]:
            given = self.weights_of_classes(class_counts, epoch, num_epochs)
            exact = [whole(weight) if count else 0 for weight, count in zip(given, class_counts, strict=True)]
            if not any(exact) or min(exact) < 0:
                raise UsageError(f"data.sampler: {self.name} gives no class with a training image a weight above zero.")
            return exact

        now = weights(epoch)
        if not self.changes_with_epoch:
            return ClassWeights(now, [epoch * weight for weight in now])
        before = [0] * len(now)
        for earlier in range(epoch):
            before = [done + weight for done, weight in zip(before, weights(earlier), strict=True)]
        return ClassWeights(now, before)

    @property
    def images_per_draw(self) -> int:
        """How many images of a class are drawn together, and stand in one batch."""
        return 1

    @property
    def file(self) -> Path | None:
        """The file that the settings name, if they name one: what it holds must not change on resume."""
        return None

    def digest(self) -> str | None:
        """Return the SHA-256 of the file.

        Raises:
            UsageError: Where it cannot be read.
        """
        if self.file is None:
            return None
        try:
            return hashlib.sha256(self.file.read_bytes()).hexdigest()
        except OSError as error:
            raise UsageError(f"{self.file}: cannot read the file of data.sampler: {error.strerror}.") from None

    @model_validator(mode="before")
    @classmethod
    def _without_fields_of_others(cls, values: Any) -> Any:
        """Drop what configs of version 0.2 say of the other samplers: nothing."""
        if not isinstance(values, dict):
            return values
        empty = {"q": None, "weights": None, "samples_per_draw": 4}
        return {
            key: value
            for key, value in values.items()
            if key in cls.model_fields or key not in empty or value != empty[key]
        }


SAMPLERS: Registry[type[Sampler]] = Registry("sampler", "ltrsys.data.plan.samplers")


def whole(weight: float) -> int:
    """Return a weight on the scale of `SCALE`, the same on every machine."""
    return int(Decimal(repr(weight)) * SCALE)
