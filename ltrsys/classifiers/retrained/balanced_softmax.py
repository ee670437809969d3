"""A linear classifier trained with the balanced softmax: the prior is in the loss, and left out afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from ltrsys.classifiers.base import CLASSIFIERS, FitContext, tried
from ltrsys.classifiers.joint import LinearClassifier
from ltrsys.classifiers.tilt import log_prior
from ltrsys.features.config import RetrainConfig
from ltrsys.section import Count


class BalancedSoftmaxConfig(RetrainConfig):
    """A linear classifier trained with the balanced softmax."""

    epochs: Count = 10


@CLASSIFIERS.register
@dataclass(frozen=True)
class BalancedSoftmaxClassifier(LinearClassifier[BalancedSoftmaxConfig]):
    """A fresh linear classifier z, trained on every image alike with the cross-entropy of z_j + log n_j.

    The log n_j explain the frequencies of the training images, so that z is right for classes of equal frequency.
    """

    name = "balanced_softmax"
    summary = "a fresh linear classifier z, trained on every image alike with the logits z_j + log n_j"
    source = "Ren et al., 2020, equation 4"
    order = 22
    label, color, marker = "Balanced softmax", "#44AA99", "<"
    calibration_folds = 1
    Config = BalancedSoftmaxConfig
    grid = tried(lr=(0.2, 0.05), weight_decay=(5e-4, 5e-5))
    depends_on_seed = True

    @classmethod
    def fit(cls, context: FitContext, config: BalancedSoftmaxConfig) -> Self:
        """Start from torch's random weights of a linear layer and train them, and the bias if there is one.

        log π_j stands for log n_j: it differs by the same number for all classes. A class without an image counts as if
        it had one.

        Raises:
            DataError: Where the training diverges.
        """
        from ltrsys.classifiers.retrained.fresh_linear import train_fresh_linear
        from ltrsys.features.balanced_sgd import instance_order

        prior_C = log_prior(context.train.class_counts).to(context.device)
        return cls(
            *train_fresh_linear(
                context, config, section=cls.name, description=cls.label, order=instance_order, prior_C=prior_C
            )
        )

    def params(self) -> dict[str, Any]:
        """Return whether it has a bias."""
        return {"bias": self.bias_C is not None}
