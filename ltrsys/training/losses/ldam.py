"""LDAM: a margin for the label, the larger the rarer its class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from ltrsys.section import Positive
from ltrsys.training.losses.base import LOSSES, Loss, LossContext, LossFunction, Outputs
from ltrsys.training.losses.cross_entropy import SoftmaxCrossEntropy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@LOSSES.register
class LDAM(Loss):
    """Cross-entropy of s·(cos_j - margin_j at the label): label-distribution-aware margins."""

    name = "ldam"
    summary = "cross-entropy with a margin for the label, larger for rare classes; needs a cosine head"
    source = "Cao et al., 2019, section 3.2, with the margins of equation 6"
    order = 30
    needs_head = "cosine"

    margin: Annotated[float, Field(ge=0)] = 0.5
    """Of the rarest class; others have it times (n_min/n_j)^(1/4)."""
    scale: Positive = 30.0
    """s: of the cosine head, instead of a learned one."""

    @property
    def fixed_scale(self) -> float:
        """As configured."""
        return self.scale

    def margins(self, class_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the margin of each class, float64 [C]; one of no image has that of the rarest."""
        rarest = class_counts[class_counts > 0].min()
        return self.margin * (rarest / np.maximum(class_counts, rarest)) ** 0.25

    def build(self, context: LossContext) -> LossFunction:
        """Return it; the logits are s times the cosines already."""
        margin_C = context.tensor(self.scale * self.margins(context.class_counts))
        cross_entropy = SoftmaxCrossEntropy(context.label_smoothing)

        def loss(outputs: Outputs) -> Tensor:
            labels_B1 = outputs.labels_B[:, None]
            logits_BC = outputs.logits_BC.scatter_add(1, labels_B1, -margin_C[labels_B1])
            return cross_entropy(Outputs(logits_BC, outputs.features_BD, outputs.labels_B))

        return loss
