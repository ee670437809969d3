"""Cross-entropy of logits that the frequencies of the classes are added to, and are left out of when predicting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from ltrsys.training.losses.base import LOSSES, Loss, LossContext, LossFunction, Outputs
from ltrsys.training.losses.cross_entropy import SoftmaxCrossEntropy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@LOSSES.register
class LogitAdjusted(Loss):
    """Cross-entropy of z_j + tau log(n_j/n)."""

    name = "logit_adjusted"
    summary = "cross-entropy of logits plus tau times the log of the class frequencies"
    source = "Menon et al., 2021, equation 10"
    order = 50

    tau: Annotated[float, Field(ge=0)] = 1.0
    """0 is cross-entropy."""

    @property
    def power_left_out(self) -> float:
        """It is tau."""
        return self.tau

    def build(self, context: LossContext) -> LossFunction:
        """Return it."""
        counts = counted(context.class_counts)
        return adjusted_cross_entropy(context, self.tau * np.log(counts / counts.sum()))


def counted(class_counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the images of each class, float64 [C], 1 for a class of none.

    With a frequency of 0 such a class would have no gradient: its logits stayed where they began, and it would be
    predicted at random. So it is trained to be predicted never.
    """
    return np.maximum(class_counts, 1).astype(np.float64)


def adjusted_cross_entropy(context: LossContext, shift_C: NDArray[np.float64]) -> LossFunction:
    """Return the cross-entropy of z_j + shift_j, with label smoothing."""
    added_C = context.tensor(shift_C)
    cross_entropy = SoftmaxCrossEntropy(context.label_smoothing)

    def loss(outputs: Outputs) -> Tensor:
        return cross_entropy(Outputs(outputs.logits_BC + added_C, outputs.features_BD, outputs.labels_B))

    return loss
