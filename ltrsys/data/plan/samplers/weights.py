"""Sampling by a weight that a file gives each class."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from ltrsys.data.plan.samplers.base import SAMPLERS, Sampler
from ltrsys.errors import UsageError


@SAMPLERS.register
class GivenWeights(Sampler):
    """A weight for each class, from a file."""

    name = "weights"
    summary = "classes by the weights in a JSON file"
    order = 50
    weights: Path = Field(strict=False)
    """A JSON file with one number per class id, in a list."""

    def weights_of_classes(self, class_counts: Sequence[int], epoch: int, num_epochs: int) -> list[float]:
        """Return the numbers of the file."""
        path = self.weights
        try:
            values = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from None
        numbers = isinstance(values, list) and all(
            isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
            for value in values
        )
        if not numbers:
            raise UsageError(f"{path}: class weights are a JSON list of numbers that are finite and not negative.")
        if len(values) != len(class_counts):
            raise UsageError(
                f"{path}: has {len(values)} weights for {len(class_counts)} classes. Give one weight per class id."
            )
        if not any(value for value, count in zip(values, class_counts, strict=True) if count):
            raise UsageError(f"{path}: no class with a training image has a weight above zero.")
        return list(values)

    @property
    def file(self) -> Path:
        """The file of weights."""
        return self.weights

    def _unreadable(self, error: Exception) -> UsageError:
        return UsageError(f"{self.weights}: cannot read class weights: {error}. Give a JSON list of numbers.")
