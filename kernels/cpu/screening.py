"""Screening: which classes can still be the answer, judged by scores that are known up to a bound.

A score s' is known to lie within `error_N + unit * |s'|` of the exact one. Both ends of that interval grow with s', so
of any group of classes the highest s' has the highest lower end and the highest upper end: groups are judged first, by
one maximum each, and only the members of groups that can hold the answer are looked at one by one.

N samples, C classes, D features, G groups of M members. Place m * G + g of a row of scores is member m of group g.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

LARGEST_GROUP = 64
THRESHOLD_SLACK = 2.0**-20
"""Covers the rounding of the thresholds themselves, which are computed in float32."""


@dataclass(frozen=True)
class Grouping:
    """Classes laid out in groups of equal size; the last class fills the places that remain."""

    class_of_place: Tensor
    """int64 [M * G]."""
    num_classes: int
    groups: int

    @classmethod
    def of(cls, class_order: Tensor, members: int) -> "Grouping":
        """Lay classes out so that `members` neighbours of `class_order`, int64 [C], form a group."""
        num_classes = len(class_order)
        groups = -(-num_classes // members)
        filled = torch.cat([class_order, class_order[-1:].expand(groups * members - num_classes)])
        return cls(filled.view(groups, members).T.reshape(-1), num_classes, groups)

    @property
    def members(self) -> int:
        """Members of a group."""
        return len(self.class_of_place) // self.groups

    def of_group(self, values_C: Tensor) -> Tensor:
        """Return the value of each class by group, [..., G, M] from [..., C]."""
        return values_C[..., self.class_of_place.view(self.members, self.groups).T]


def members_for(num_classes: int, k: int) -> int:
    """Return how many classes to put into a group when the k best are wanted.

    The k-th best group gives the threshold, which is only tight if there are many more groups than k.
    """
    return max(1, min(LARGEST_GROUP, num_classes // (8 * k)))


@dataclass(frozen=True)
class Scores:
    """Scores of a block of features, known up to a bound."""

    values_NP: Tensor
    """At each place, [N, M * G]; to be multiplied by `scale_N`, if there is one."""
    error_N: Tensor
    unit: float
    grouping: Grouping
    scale_N: Tensor | None = None

    def lower(self, values_NG: Tensor) -> Tensor:
        """Return the lower ends of the intervals of scores, float32 [N, G]."""
        return values_NG - values_NG.abs() * self.unit - self.error_N[:, None]

    def upper(self, values_NG: Tensor) -> Tensor:
        """Return the upper ends."""
        return values_NG + values_NG.abs() * self.unit + self.error_N[:, None]

    def best_of_group(self) -> Tensor:
        """Return the highest score of each group, float32 [N, G]."""
        best_NG = self.values_NP.view(len(self.values_NP), -1, self.grouping.groups).amax(dim=1).float()
        return best_NG if self.scale_N is None else best_NG * self.scale_N[:, None]

    def candidates(self, best_NG: Tensor, threshold_NG: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows, ascending, and the classes whose upper end reaches the threshold of their group.

        Comparisons are written so that a NaN, of scores that overflowed, makes a candidate.
        """
        groups = self.grouping.groups
        threshold_NG = threshold_NG - threshold_NG.abs() * THRESHOLD_SLACK
        row_Q, group_Q = (~(self.upper(best_NG) < threshold_NG)).nonzero(as_tuple=True)
        member_M = torch.arange(self.grouping.members)
        place_QM = member_M * groups + group_Q[:, None]
        values_QM = self.values_NP[row_Q[:, None], place_QM].float()
        if self.scale_N is not None:
            values_QM *= self.scale_N[row_Q][:, None]
        upper_QM = values_QM + values_QM.abs() * self.unit + self.error_N[row_Q][:, None]
        reaches_QM = ~(upper_QM < threshold_NG[row_Q, group_Q][:, None])
        # the last class fills the places that remain: only the first of them counts
        reaches_QM &= group_Q[:, None] * self.grouping.members + member_M < self.grouping.num_classes
        pair, member = reaches_QM.nonzero(as_tuple=True)
        return row_Q[pair], self.grouping.class_of_place[place_QM[pair, member]]


class Screen(Protocol):
    """Class vectors made ready for screening: gives scores x.w_j + b_j, up to a bound, for a block of features x."""

    grouping: Grouping

    def scores(self, features_ND: Tensor) -> Scores:
        """Return the scores of float32 features [N, D]."""
        ...
