"""What every classifier of the second stage can do: rank the classes of a feature, and be saved.

N samples, C classes, D features.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args

from torch import Tensor

ClassifierName = Literal["joint", "ncm", "crt", "tau", "lws"]
NAMES: tuple[ClassifierName, ...] = get_args(ClassifierName)
SelectedOn = Literal["val", "train", "learned"]


class Classifier(ABC):
    """A classifier on frozen features."""

    name: ClassVar[ClassifierName]
    selected_on: SelectedOn | None = None
    """What its hyper-parameter was selected on; None if it has none that is."""

    @abstractmethod
    def rank(self, features_ND: Tensor, k: int) -> Tensor:
        """Return the k best classes of each feature, int64 [N, k], best first; ties go to the lower class id."""

    @abstractmethod
    def weight(self) -> Tensor:
        """Return the vector of each class that features are compared with, [C, D], for plotting its length."""

    @abstractmethod
    def params(self) -> dict[str, Any]:
        """Return what `results.json` says of it, as JSON values."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return all that `restore` needs beside `params`."""

    @classmethod
    @abstractmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make the classifier that gave `tensors`, `params` and `selected_on`; it ranks with the same bits."""
