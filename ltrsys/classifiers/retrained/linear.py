"""A linear probe: the classifier that training with the backbone would have given, had it seen these features alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ltrsys.classifiers.base import CLASSIFIERS, FitContext, tried
from ltrsys.classifiers.joint import LinearClassifier
from ltrsys.features.config import RetrainConfig
from ltrsys.section import Count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LinearConfig(RetrainConfig):
    """A linear probe."""

    epochs: Count = 10


@CLASSIFIERS.register
@dataclass(frozen=True)
class LinearProbe(LinearClassifier[LinearConfig]):
    """A fresh linear classifier, trained with instance-balanced sampling on the frozen features."""

    name = "linear"
    summary = "a fresh linear classifier, trained with instance-balanced sampling: every image alike"
    source = "Alain and Bengio, 2016, section 3"
    order = 5
    label, color, marker = "Linear probe", "#88CCEE", "8"
    calibration_folds = 1
    Config = LinearConfig
    grid = tried(lr=(0.2, 0.05), weight_decay=(5e-4, 5e-5))
    depends_on_seed = True

    @classmethod
    def fit(cls, context: FitContext, config: LinearConfig) -> Self:
        """Start from torch's random weights of a linear layer and train them, and the bias if there is one.

        Raises:
            DataError: Where the training diverges.
        """
        from ltrsys.classifiers.retrained.fresh_linear import train_fresh_linear
        from ltrsys.features.balanced_sgd import instance_order

        return cls(*train_fresh_linear(context, config, section=cls.name, description=cls.label, order=instance_order))

    def class_frequencies(self, trained_C: NDArray[np.float64], train_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return those of the training images, each of which it saw as often as any other."""
        return train_counts / train_counts.sum()

    def params(self) -> dict[str, Any]:
        """Return whether it has a bias."""
        return {"bias": self.bias_C is not None}
