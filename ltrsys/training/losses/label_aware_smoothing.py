"""Label-aware smoothing: frequent classes are smoothed more than rare ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from ltrsys.training.losses.base import LOSSES, Loss, LossContext, LossFunction, Outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Smoothing = Annotated[float, Field(ge=0, lt=1)]


@LOSSES.register
class LabelAwareSmoothing(Loss):
    """Cross-entropy with 1-eps_y for the label and eps_y/(C-1) for each other class."""

    name = "label_aware_smoothing"
    summary = "cross-entropy, smoothed from `head` for the largest class to `tail` for the smallest"
    source = "Zhong et al., 2021 (MiSLAS), label-aware smoothing, the concave form"
    order = 60
    smooths_labels = False

    head: Smoothing = 0.3
    """eps of the class with the most images."""
    tail: Smoothing = 0.0
    """eps of the class with the fewest."""

    def smoothing(self, class_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return eps of each class, float64 [C]: tail + (head-tail) sin(pi/2 (n-n_min)/(n_max-n_min)).

        `tail` for all where they have equally many; classes of no image do not count.
        """
        smallest, largest = class_counts[class_counts > 0].min(), class_counts.max()
        place = np.clip((class_counts - smallest) / max(1, largest - smallest), 0.0, 1.0)
        return self.tail + (self.head - self.tail) * np.sin(np.pi / 2 * place)

    def build(self, context: LossContext) -> LossFunction:
        """Return it."""
        smoothing_C = context.tensor(self.smoothing(context.class_counts))
        others = max(1, len(context.class_counts) - 1)

        def loss(outputs: Outputs) -> Tensor:
            log_p_BC = outputs.logits_BC.log_softmax(dim=1)
            label_B = log_p_BC.gather(1, outputs.labels_B[:, None])[:, 0]
            smoothing_B = smoothing_C[outputs.labels_B]
            return (smoothing_B - 1) * label_B - smoothing_B / others * (log_p_BC.sum(dim=1) - label_B)

        return loss
