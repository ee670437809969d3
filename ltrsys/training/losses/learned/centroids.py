"""The learned centroids of OLTR (Liu et al., 2019, section 3.3).

B samples, D features, C classes.
"""

import torch
from torch import Tensor, nn

from ltrsys.training.losses.base import LossFunction, Outputs


class CentroidLoss(nn.Module):
    """A loss of the logits plus weight·(½|x-c_y|² + repel·(margin - mean squared distance to the others)_+)."""

    def __init__(
        self,
        of_logits: LossFunction,
        num_classes: int,
        num_features: int,
        *,
        weight: float,
        repel: float,
        margin: float,
    ) -> None:
        super().__init__()
        self.centroids = nn.Parameter(torch.randn(num_classes, num_features))
        self._of_logits, self._weight, self._repel, self._margin = of_logits, weight, repel, margin

    def forward(self, outputs: Outputs) -> Tensor:
        """Return the loss of each sample, [B]."""
        features_BD, centroids_CD = outputs.features_BD, self.centroids
        own_B = (features_BD - centroids_CD[outputs.labels_B]).square().sum(dim=1)
        # From sums over the classes, without a distance for each; the norm keeps no squares of [C, D] for backward.
        classes, lengths_B = len(centroids_CD), features_BD.square().sum(dim=1)
        squares = torch.linalg.vector_norm(centroids_CD).square()
        all_B = classes * lengths_B - 2 * (features_BD @ centroids_CD.sum(dim=0)) + squares
        missing_B = (self._margin - (all_B - own_B) / max(1, classes - 1)).clamp(min=0)
        of_logits_B: Tensor = self._of_logits(outputs)
        return of_logits_B + self._weight * (own_B / 2 + self._repel * missing_B)
