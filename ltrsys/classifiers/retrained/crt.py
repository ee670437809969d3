"""Classifier re-training (paper, section 4, cRT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from ltrsys.classifiers.base import CLASSIFIERS, FitContext, tried
from ltrsys.classifiers.joint import LinearClassifier
from ltrsys.features.config import RetrainConfig
from ltrsys.section import Count


class CRTConfig(RetrainConfig):
    """Classifier re-training."""

    epochs: Count = 10


@CLASSIFIERS.register
@dataclass(frozen=True)
class RetrainedClassifier(LinearClassifier[CRTConfig]):
    """A fresh linear classifier, trained with class-balanced sampling on the frozen features."""

    name = "crt"
    summary = "a fresh linear classifier, trained with class-balanced sampling"
    source = "Kang et al., 2020, section 4"
    order = 20
    label, color, marker = "cRT", "#009E73", "^"
    calibration_folds = 1
    Config = CRTConfig
    grid = tried(lr=(0.2, 0.05), weight_decay=(5e-4, 5e-5))
    depends_on_seed = True

    @classmethod
    def fit(cls, context: FitContext, config: CRTConfig) -> Self:
        """Start from torch's random weights of a linear layer and train them, and the bias if there is one.

        Raises:
            DataError: Where the training diverges.
        """
        from ltrsys.classifiers.retrained.fresh_linear import train_fresh_linear

        return cls(*train_fresh_linear(context, config, section=cls.name, description=cls.label))

    def params(self) -> dict[str, Any]:
        """Return whether it has a bias."""
        return {"bias": self.bias_C is not None}
