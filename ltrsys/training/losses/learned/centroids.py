"""The learned centroids of OLTR (Liu et al., 2019, section 3.3).

B samples, D features, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ltrsys.training.losses.base import LossFunction, Outputs


@dataclass(frozen=True)
class CentroidFormula:
    """A loss of the logits plus weight·(½|x-c_y|² + repel·(margin - mean squared distance to the others)_+)."""

    of_logits: LossFunction
    weight: float
    repel: float
    margin: float

    def __call__(self, outputs: Outputs, centroids_CD: Tensor) -> Tensor:
        """Return the loss of each sample, [B]."""
        features_BD = outputs.features_BD
        own_B = (features_BD - centroids_CD[outputs.labels_B]).square().sum(dim=1)
        # From sums over the classes, without a distance for each; the norm keeps no squares of [C, D] for backward.
        classes, lengths_B = len(centroids_CD), features_BD.square().sum(dim=1)
        squares = torch.linalg.vector_norm(centroids_CD).square()
        all_B = classes * lengths_B - 2 * (features_BD @ centroids_CD.sum(dim=0)) + squares
        missing_B = (self.margin - (all_B - own_B) / max(1, classes - 1)).clamp(min=0)
        return self.of_logits(outputs) + self.weight * (own_B / 2 + self.repel * missing_B)


class CentroidLoss(nn.Module):
    """The formula with centroids of its own, which begin as standard normal numbers."""

    def __init__(self, formula: CentroidFormula, num_classes: int, num_features: int) -> None:
        super().__init__()
        self.centroids = nn.Parameter(torch.randn(num_classes, num_features))
        self._formula = formula

    def forward(self, outputs: Outputs) -> Tensor:
        """Return the loss of each sample, [B]."""
        return self._formula(outputs, self.centroids)
