"""OLTR's centroid loss: features come near the learned centroid of their class and stay away from the others."""

from __future__ import annotations

from typing import Annotated, ClassVar

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

    learns_centroids: ClassVar[bool] = True

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
        """Return it: of the head's centroids where it has some, else as a module that holds centroids of its own."""
        from ltrsys.training.losses.learned.centroids import CentroidFormula, CentroidLoss

        formula = CentroidFormula(super().build(context), self.weight, self.repel, self.margin)
        if (centroids := context.centroids) is not None:
            return lambda outputs: formula(outputs, centroids)
        return CentroidLoss(formula, len(context.class_counts), context.num_features).to(context.device)
