"""Focal loss: what is predicted well counts less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ltrsys.training.losses.base import LOSSES, Loss, LossContext, LossFunction, Outputs

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-30
"""The least of 1-p: of 0, a power below 1 has no gradient."""


@LOSSES.register
class Focal(Loss):
    """(1-p)^gamma times cross-entropy, p the softmax probability of the label."""

    name = "focal"
    summary = "cross-entropy times (1-p)^gamma, p the probability of the label"
    source = "Lin et al., 2017, equation 4, of the softmax as in the code of Cao et al., 2019"
    order = 10
    smooths_labels = False

    gamma: Annotated[float, Field(ge=0)] = 1.0
    """0 is cross-entropy."""

    def build(self, context: LossContext) -> LossFunction:
        """Return it."""
        return lambda outputs: softmax_focal(outputs, self.gamma)


def softmax_focal(outputs: Outputs, gamma: float) -> Tensor:
    """Return -(1-p)^gamma log p of each sample, [B]; 1-p is exact to rounding where p is near 1."""
    from torch.nn import functional

    cross_entropy_B = functional.cross_entropy(outputs.logits_BC, outputs.labels_B, reduction="none")
    missing_B = -(-cross_entropy_B).expm1()
    return missing_B.clamp(min=SMALLEST) ** gamma * cross_entropy_B
