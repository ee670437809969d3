"""Range loss: features of a class come together, the centres of classes apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ltrsys.section import Count
from ltrsys.training.losses.base import LOSSES, BatchTerm, LossContext, Outputs
from ltrsys.training.losses.cross_entropy import CrossEntropy

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-6
"""The least distance: that of two equal images has no reciprocal."""


@LOSSES.register
class Range(CrossEntropy):
    """Cross-entropy plus the range loss of the features of a micro-batch."""

    name = "range"
    summary = "cross-entropy plus the range loss of the batch's features; needs several images of a class"
    source = "Zhang et al., 2017, section 3.2"
    order = 70
    has_batch_term = True
    needs_several_of_a_class = True

    k: Count = 2
    """How many of the largest distances in a class."""
    intra_weight: Annotated[float, Field(ge=0)] = 5e-5
    """Of the classes' harmonic means of these, summed over the classes of the micro-batch."""
    inter_weight: Annotated[float, Field(ge=0)] = 1e-4
    """Of what the smallest squared distance between two centres of the micro-batch lacks to the margin."""
    margin: Annotated[float, Field(ge=0)] = 2e4

    def build_batch_term(self, context: LossContext) -> BatchTerm:
        """Return the range loss."""

        def term(outputs: Outputs) -> Tensor:
            features_BD, labels_B = outputs.features_BD, outputs.labels_B
            intra = harmonic_ranges(features_BD, labels_B, self.k).sum()
            inter = (self.margin - smallest_centre_distance(features_BD, labels_B)).clamp(min=0)
            return self.intra_weight * intra + self.inter_weight * inter

        return term


def harmonic_ranges(features_BD: Tensor, labels_B: Tensor, k: int) -> Tensor:
    """Return the harmonic mean of the k largest distances in each class, [B]: at its first sample, else 0.

    Of all the distances where a class has fewer. No size depends on the labels, which a GPU would be waited for.
    """
    import torch

    size = len(labels_B)
    same_BB = labels_B[:, None] == labels_B
    pairs_BB = same_BB.triu(diagonal=1)
    distances_BB = torch.cdist(features_BD, features_BD, compute_mode="donot_use_mm_for_euclid_dist")
    # Each pair stands in one row, so those of a class are among the k largest of its rows.
    largest_BK = torch.where(pairs_BB, distances_BB.clamp(min=SMALLEST), 0.0).topk(min(k, size), dim=1).values
    first_B = same_BB.int().argmax(dim=1)  # of each sample's class
    order = largest_BK.flatten().argsort(descending=True, stable=True)
    firsts = first_B.repeat_interleave(largest_BK.shape[1])[order]
    by_class = firsts.argsort(stable=True)
    firsts, values = firsts[by_class], largest_BK.flatten()[order][by_class]
    rank = torch.arange(len(firsts), device=firsts.device) - torch.searchsorted(firsts, firsts)
    taken = (rank < k) & (values > 0)
    reciprocals_B = values.new_zeros(size).index_add(0, firsts, torch.where(taken, 1 / values.clamp(min=SMALLEST), 0.0))
    counts_B = values.new_zeros(size).index_add(0, firsts, taken.to(values.dtype))
    return torch.where(counts_B > 0, counts_B / reciprocals_B.clamp(min=torch.finfo(values.dtype).tiny), 0.0)


def smallest_centre_distance(features_BD: Tensor, labels_B: Tensor) -> Tensor:
    """Return the smallest squared distance between the mean features of two classes, []; infinite for one class."""
    import torch

    same_BB = labels_B[:, None] == labels_B
    centres_BD = (same_BB.to(features_BD.dtype) / same_BB.sum(dim=1, keepdim=True)) @ features_BD
    squared_BB = torch.cdist(centres_BD, centres_BD, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.where(same_BB, torch.inf, squared_BB).min()
