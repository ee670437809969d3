"""Sampling of the base classes alone: the first stage of learning without forgetting."""

from collections.abc import Sequence

from pydantic import Field

from ltrsys.data.plan.samplers.base import SAMPLERS, Sampler
from ltrsys.errors import UsageError


@SAMPLERS.register
class BaseClasses(Sampler):
    """Instance-balanced over the classes with many images; the others are never drawn."""

    name = "base_classes"
    summary = "every image of the classes with more than base_min images; the others are left out"
    source = "Gidaris and Komodakis, 2018; Liu et al., 2019 for long tails"
    order = 70
    base_min: int = Field(default=20, ge=0)
    """A base class has more training images than this."""

    def weights_of_classes(self, class_counts: Sequence[int], epoch: int, num_epochs: int) -> list[int]:
        """Return n_j for base classes, 0 for others.

        Raises:
            UsageError: Where there is no base class.
        """
        if max(class_counts) <= self.base_min:
            raise UsageError(
                f"data.sampler.base_min={self.base_min}: no class has more than so many training images (the most: "
                f"{max(class_counts)}). Lower it."
            )
        return [count if count > self.base_min else 0 for count in class_counts]
