"""OLTR's centroid loss: features come near the learned centroid of their class and stay away from the others."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ltrsys.section import Positive
from ltrsys.training.losses.base import LOSSES, LossContext, LossFunction
from ltrsys.training.losses.cross_entropy import CrossEntropy


@LOSSES.register
class OLTRCentroids(CrossEntropy):
    """Cross-entropy plus weight·(½|x-c_y|² + repel·(margin - mean squared distance to the other centroids)_+)."""

    name = "oltr_centroids"
    summary = "cross-entropy plus the distance to learned centroids of the classes"
    source = "Liu et al., 2019, section 3.3; their code `DiscCentroidsLoss`, whose distances are squared"
    order = 90

    weight: Annotated[float, Field(ge=0)] = 0.01
    repel: Annotated[float, Field(ge=0)] = 0.01
    margin: Annotated[float, Field(ge=0)] = 10.0
    lr: Positive = 0.01
    """Learning rate of the centroids, times the schedule's factor."""

    @property
    def parameter_lr(self) -> float:
        """As configured."""
        return self.lr

    def build(self, context: LossContext) -> LossFunction:
        """Return it, as a module that holds the centroids, which begin as standard normal numbers."""
        from ltrsys.training.losses.learned.centroids import CentroidLoss

        return CentroidLoss(
            super().build(context),
            len(context.class_counts),
            context.num_features,
            weight=self.weight,
            repel=self.repel,
            margin=self.margin,
        ).to(context.device)
