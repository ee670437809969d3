"""Softmax cross-entropy: the paper's loss."""

from __future__ import annotations

from functools import partial

from ltrsys.training.losses.base import LOSSES, Loss, LossContext, LossFunction


@LOSSES.register
class CrossEntropy(Loss):
    """Softmax cross-entropy, with `train.label_smoothing`."""

    name = "cross_entropy"
    summary = "softmax cross-entropy, with train.label_smoothing"
    source = "Kang et al., 2020, section 5.1"
    order = 0

    def build(self, context: LossContext) -> LossFunction:
        """Return torch's cross-entropy."""
        from torch.nn import functional

        return partial(functional.cross_entropy, label_smoothing=context.label_smoothing)
