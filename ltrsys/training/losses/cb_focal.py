"""Class-balanced focal loss: focal loss, weighted by effective numbers of images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ltrsys.training.losses.base import LOSSES, Loss, LossContext, LossFunction, Outputs
from ltrsys.training.losses.focal import softmax_focal

if TYPE_CHECKING:
    from torch import Tensor


@LOSSES.register
class ClassBalancedFocal(Loss):
    """Focal loss with `reweight: effective_number` from the first epoch on, unless told otherwise."""

    name = "cb_focal"
    summary = "focal loss, weighted by the effective number of images of the class"
    source = "Cui et al., 2019, section 4.3"
    order = 20
    smooths_labels = False

    reweight: Literal["none", "effective_number"] = "effective_number"
    """As with every loss; `none` is plain focal loss."""
    gamma: Annotated[float, Field(ge=0)] = 1.0
    """0 is cross-entropy, or with `sigmoid` the sum of the classes' binary ones."""
    per_class: Literal["softmax", "sigmoid"] = "softmax"
    """One probability over all classes; or, as in the paper, one of its own for every class, whose losses are
    added up."""

    def build(self, context: LossContext) -> LossFunction:
        """Return it; the weights by class are not part of it."""
        if self.per_class == "softmax":
            return lambda outputs: softmax_focal(outputs, self.gamma)
        # In the paper, this is where the biases of the last layer begin. As a constant it serves heads without a bias,
        # is not drawn to 0 by weight decay, and changes no ranking.
        prior = -math.log(max(1, len(context.class_counts) - 1))
        return lambda outputs: sigmoid_focal(outputs, self.gamma, prior)


def sigmoid_focal(outputs: Outputs, gamma: float, prior: float) -> Tensor:
    """Return -sum_j (1-p_j)^gamma log p_j of each sample, [B].

    p_j is the sigmoid of z_j + prior for the label, and of -(z_j + prior) for every other class.
    """
    import torch
    from torch.nn import functional

    logits_BC = outputs.logits_BC + prior
    signed_BC = (-logits_BC).scatter(1, outputs.labels_B[:, None], logits_BC.gather(1, outputs.labels_B[:, None]))
    log_p_BC, log_missing_BC = functional.logsigmoid(signed_BC), functional.logsigmoid(-signed_BC)
    return -(torch.exp(gamma * log_missing_BC) * log_p_BC).sum(dim=1)
