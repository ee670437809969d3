"""Screening: which classes can still be the answer, judged by scores that are known up to a bound.

A score s' is known to lie within `error_N + unit * |s'|` of the exact one. Both ends of that interval grow with s', so
of any group of classes the highest s' has the highest lower end and the highest upper end: groups are judged first, by
one maximum each, and only the members of groups that can hold the answer are looked at one by one.

N samples, C classes, D features, G groups of M members. Place m * G + g of a row of scores is member m of group g.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from ltrsys.kernels.rounding import ACCUMULATION_UNIT, RoundedRows, product_error, round_rows

LARGEST_GROUP = 64
THRESHOLD_SLACK = 2.0**-20
"""Covers the rounding of the thresholds themselves, which are computed in float32."""


@cache
def processor_multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16; without them float32 is faster."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


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
    """At each place, [N, M * G]."""
    error_N: Tensor
    unit: float
    grouping: Grouping

    def lower(self, values: Tensor) -> Tensor:
        """Return the lower ends of the intervals of `values`, [N, ...], as float32."""
        values = values.float()
        return values - values.abs() * self.unit - self._error_beside(values)

    def upper(self, values: Tensor) -> Tensor:
        """Return the upper ends."""
        values = values.float()
        return values + values.abs() * self.unit + self._error_beside(values)

    def best_of_group(self) -> Tensor:
        """Return the highest score of each group, [N, G]."""
        return self.values_NP.view(len(self.values_NP), -1, self.grouping.groups).amax(dim=1)

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
        upper_QM = values_QM + values_QM.abs() * self.unit + self.error_N[row_Q][:, None]
        reaches_QM = ~(upper_QM < threshold_NG[row_Q, group_Q][:, None])
        # the last class fills the places that remain: only the first of them counts
        reaches_QM &= group_Q[:, None] * self.grouping.members + member_M < self.grouping.num_classes
        pair, member = reaches_QM.nonzero(as_tuple=True)
        return row_Q[pair], self.grouping.class_of_place[place_QM[pair, member]]

    def _error_beside(self, values: Tensor) -> Tensor:
        return self.error_N.view(-1, *[1] * (values.ndim - 1))


class Screen(Protocol):
    """Class vectors made ready for screening: gives scores x.w_j + b_j, up to a bound, for a block of features x."""

    grouping: Grouping

    def scores(self, features_ND: Tensor) -> Scores:
        """Return the scores of float32 features [N, D]."""
        ...


class RoundedScreen:
    """The product in bfloat16: fast where the processor has instructions for it.

    The class vectors are kept in bfloat16, in the order of their places. A bias is kept as three more columns: three
    bfloat16 numbers hold 24 bits of it, and what they leave is counted to the residual.
    """

    UNIT = 2.0**-8 * (1.0 + 2.0**-7)
    """Rounding of the result to bfloat16, relative to the rounded result."""
    PARTS_OF_BIAS = 3
    ROWS_AT_ONCE = 256

    def __init__(
        self,
        vectors_of: Callable[[Tensor], Tensor],
        vector_error: float,
        num_features: int,
        grouping: Grouping,
        *,
        bias_C: Tensor | None = None,
        shift_D: Tensor | None = None,
    ) -> None:
        """Round the vectors.

        Args:
            vectors_of: Gives the vectors of some classes, float32 [len(classes), D].
            vector_error: At least the L2 norm of the difference between such a vector and the exact one.
            num_features: D.
            grouping: The places.
            bias_C: Added to each score, float64 [C].
            shift_D: Subtracted from each feature first, float32 [D].
        """
        self.grouping = grouping
        self._shift_D = shift_D
        self._extra = 0 if bias_C is None else self.PARTS_OF_BIAS
        self._bias_error = 0.0
        places = len(grouping.class_of_place)
        values_PD = torch.empty(places, num_features + self._extra, dtype=torch.bfloat16)
        norm_P, residual_P = torch.empty(places), torch.empty(places)
        for rows in torch.arange(places).split(self.ROWS_AT_ONCE):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            rounded = round_rows(vectors_of(grouping.class_of_place[part]), torch.bfloat16)
            values_PD[part, :num_features] = rounded.values_RD
            norm_P[part], residual_P[part] = rounded.norm_R, rounded.residual_R
        if bias_C is not None:
            left_P = bias_C[grouping.class_of_place]
            largest = float(left_P.abs().max())
            for part_of_bias in range(num_features, num_features + self._extra):
                values_PD[:, part_of_bias] = left_P.bfloat16()
                left_P = left_P - values_PD[:, part_of_bias].double()
            accumulated = 2 * (num_features + self._extra) * ACCUMULATION_UNIT * largest
            self._bias_error = float(left_P.abs().max()) + accumulated
        self._vectors = RoundedRows(values_PD, norm_P, residual_P.add_(vector_error))

    def scores(self, features_ND: Tensor) -> Scores:
        """Return the scores of float32 features [N, D]."""
        shift_error_N = 0.0
        if self._shift_D is not None:
            unshifted_N = features_ND.norm(dim=1)
            features_ND = features_ND - self._shift_D
            shift_error_N = 2.0**-22 * (unshifted_N + features_ND.norm(dim=1)) * self._vectors.norm_R.max()
        rounded = round_rows(features_ND, torch.bfloat16)
        error_N = product_error(rounded, self._vectors) + shift_error_N + self._bias_error
        values_ND = rounded.values_RD
        if self._extra:
            values_ND = torch.cat([values_ND, values_ND.new_ones(len(values_ND), self._extra)], dim=1)
        return Scores(values_ND @ self._vectors.values_RD.T, error_N, self.UNIT, self.grouping)


class PlainScreen:
    """The product in float32 with the class vectors as they are; each score is then multiplied and moved."""

    UNIT = 2.0**-22
    """Rounding of the multiplication and of the addition."""

    def __init__(self, vectors_CD: Tensor, factor_C: Tensor | None, bias_C: Tensor | None, grouping: Grouping) -> None:
        self.grouping = grouping
        self._vectors_CD = vectors_CD
        self._factor_P = None if factor_C is None else factor_C.float()[grouping.class_of_place]
        self._bias_P = None if bias_C is None else bias_C.float()[grouping.class_of_place]
        norm_C = vectors_CD.norm(dim=1) if factor_C is None else torch.ones(1)
        self._norm = norm_C.max() * (1.0 + 2.0 * max(vectors_CD.shape[1] * 2.0**-23, 2.0**-20))
        self._bias_error = 0.0 if bias_C is None else float(bias_C.abs().max()) * self.UNIT

    def scores(self, features_ND: Tensor) -> Scores:
        """Return the scores of float32 features [N, D]."""
        values_NP = (features_ND @ self._vectors_CD.T).index_select(1, self.grouping.class_of_place)
        if self._factor_P is not None:
            values_NP *= self._factor_P
        if self._bias_P is not None:
            values_NP += self._bias_P
        norm_N = features_ND.norm(dim=1)
        error_N = features_ND.shape[1] * ACCUMULATION_UNIT * norm_N * self._norm + self._bias_error
        return Scores(values_NP, error_N, self.UNIT, self.grouping)
