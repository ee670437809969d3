"""A loss of one's own: the Brier score, the squared distance of the predicted probabilities from the label.

plugins: [examples/brier_loss.py]
train: {loss: {kind: brier}}
"""

import torch
from torch import Tensor
from torch.nn import functional

from ltrsys.training.losses.base import LOSSES, Loss, LossContext, LossFunction, Outputs


@LOSSES.register
class Brier(Loss):
    """The Brier score."""

    name = "brier"
    summary = "the squared distance of the probabilities from the label"
    source = "Brier, 1950"

    def build(self, context: LossContext) -> LossFunction:
        """Return the score of each sample."""
        num_classes = len(context.class_counts)

        def loss(outputs: Outputs) -> Tensor:
            target_BC = functional.one_hot(outputs.labels_B, num_classes)
            return torch.sum((outputs.logits_BC.softmax(dim=1) - target_BC) ** 2, dim=1)

        return loss
