"""Lifted structured loss over the pairs of a batch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ltrsys.errors import UsageError
from ltrsys.section import Positive
from ltrsys.training.losses.base import LOSSES, BatchTerm, LossContext, Outputs
from ltrsys.training.losses.cross_entropy import CrossEntropy

if TYPE_CHECKING:
    from torch import Tensor


@LOSSES.register
class Lifted(CrossEntropy):
    """Cross-entropy plus the lifted structured loss of the features of a micro-batch."""

    name = "lifted"
    summary = "cross-entropy plus the lifted structured loss of the batch's features (pytorch-metric-learning)"
    source = "Oh Song et al., 2016, equation 4; the code of pytorch-metric-learning"
    order = 80
    has_batch_term = True

    weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the lifted structured loss."""
    margin: Positive = 1.0
    """Distance, of features of length 1, that other classes are pushed away to."""

    def build_batch_term(self, context: LossContext) -> BatchTerm:
        """Return the library's loss, which chooses its pairs on the host: on a GPU, each micro-batch waits for it.

        Raises:
            UsageError: Where the library is not installed.
        """
        if find_spec("pytorch_metric_learning") is None:
            raise UsageError(
                "train.loss.kind=lifted needs pytorch-metric-learning, which is not installed: pip install "
                "'ltrsys[lifted]', or choose another loss."
            )
        from pytorch_metric_learning.losses import LiftedStructureLoss

        lifted = LiftedStructureLoss(neg_margin=self.margin, pos_margin=0)

        def term(outputs: Outputs) -> Tensor:
            found: Tensor = lifted(outputs.features_BD, outputs.labels_B)
            return self.weight * found

        return term
