"""A classifier of one's own: the joint classifier without its bias, scaled.

plugins: [examples/unbiased_classifier.py]
balance: {classifiers: [joint, tau, unbiased], unbiased: {scale: 2.0}}
"""

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from ltrsys.classifiers.base import CLASSIFIERS, FitContext
from ltrsys.classifiers.joint import LinearClassifier
from ltrsys.section import Positive, Section


class UnbiasedConfig(Section):
    """The joint classifier without its bias."""

    scale: Positive = 1.0


@CLASSIFIERS.register
@dataclass(frozen=True)
class Unbiased(LinearClassifier[UnbiasedConfig]):
    """Logits scale * W z."""

    name, label, color, marker = "unbiased", "Unbiased", "#7F3C8D", "X"
    summary = "the joint classifier without its bias"
    Config = UnbiasedConfig

    @classmethod
    def fit(cls, context: FitContext, config: UnbiasedConfig) -> Self:
        """Take the joint weights."""
        weight_CD: Tensor = context.joint().weight_CD
        return cls(config.scale * weight_CD, None)
