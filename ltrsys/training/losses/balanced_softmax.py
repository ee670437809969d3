"""Balanced softmax: the class counts belong to the training images, and are left out when predicting."""

from __future__ import annotations

import numpy as np

from ltrsys.training.losses.base import LOSSES, Loss, LossContext, LossFunction
from ltrsys.training.losses.logit_adjusted import adjusted_cross_entropy, counted


@LOSSES.register
class BalancedSoftmax(Loss):
    """Cross-entropy of z_j + log n_j."""

    name = "balanced_softmax"
    summary = "cross-entropy of logits plus the log of the class counts"
    source = "Ren et al., 2020, theorem 1"
    order = 40

    @property
    def power_left_out(self) -> float:
        """All of it."""
        return 1.0

    def build(self, context: LossContext) -> LossFunction:
        """Return it."""
        return adjusted_cross_entropy(context, np.log(counted(context.class_counts)))
