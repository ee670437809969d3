"""Softmax cross-entropy: the paper's loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ltrsys.training.losses.base import LOSSES, Loss, LossContext, LossFunction, Outputs

if TYPE_CHECKING:
    from torch import Tensor


class SoftmaxCrossEntropy:
    """torch's cross-entropy with label smoothing, by sample or at once their mean."""

    def __init__(self, label_smoothing: float) -> None:
        self._label_smoothing = label_smoothing

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return the loss of each sample, [B]."""
        return self._by(outputs, "none")

    def mean(self, outputs: Outputs) -> Tensor:
        """Return their mean, []."""
        return self._by(outputs, "mean")

    def _by(self, outputs: Outputs, reduction: str) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(
            outputs.logits_BC, outputs.labels_B, label_smoothing=self._label_smoothing, reduction=reduction
        )


@LOSSES.register
class CrossEntropy(Loss):
    """Softmax cross-entropy, with `train.label_smoothing`."""

    name = "cross_entropy"
    summary = "softmax cross-entropy, with train.label_smoothing"
    source = "Kang et al., 2020, section 5.1"
    order = 0

    def build(self, context: LossContext) -> LossFunction:
        """Return torch's cross-entropy."""
        return SoftmaxCrossEntropy(context.label_smoothing)

    def build_mean(self, loss: LossFunction) -> LossFunction:
        """Return torch's own mean, whose last bits are not those of the mean of the samples: old runs go on alike."""
        return loss.mean if isinstance(loss, SoftmaxCrossEntropy) else super().build_mean(loss)
