"""`ncm_search` on a CPU: screened by products in low precision, decided by float32 and float64.

Both metrics rank by factor_j * x.m_j + bias_j: the cosine by factor 1/|m_j|, the Euclidean distance by bias
-|m_j|^2/2. Neither ranking changes when a vector is subtracted from all m_j/|m_j| or, for the distance, from all m_j
and x. The screen subtracts their mean, because its bound is relative to the lengths that remain.

N samples, C classes, D features, K candidates of a sample at most.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ltrsys.kernels import reference
from ltrsys.kernels.checks import Metric
from ltrsys.kernels.rescoring import Candidates, rowwise_norm
from ltrsys.kernels.screening import Grouping, Scores, Screen, members_for
from ltrsys.kernels.screens import ByteScreen, Cascade, PlainScreen, RoundedScreen
from ltrsys.kernels.search import MOST_CANDIDATES, Search, can_be_screened

ROWS_OF_A_BLOCK = 1024
"""Features that are screened at once: 32 MiB of scores in 32-bit numbers at 8,142 classes."""
CANCELLED = 1 / 8
"""A squared distance below this part of |x|^2 + |m|^2 is computed from differences: it has lost bits otherwise."""


def ncm_search(
    features_ND: Tensor, class_means_CD: Tensor, k: int, metric: Metric, center_D: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Find the k nearest class means of validated features on a CPU; see `ltrsys.kernels.ncm_search`."""
    if not can_be_screened(features_ND, class_means_CD):
        return reference.ncm_search(features_ND, class_means_CD, k, metric, center_D)
    means = _Means.of(class_means_CD.float(), metric)
    cascade = means.cascade(k)
    blocks = [
        _Nearest(block_ND, means, k, center_D).answers(cascade) for block_ND in features_ND.split(ROWS_OF_A_BLOCK)
    ]
    return torch.cat([scores for scores, _ in blocks]), torch.cat([classes for _, classes in blocks])


@dataclass(frozen=True)
class _Means:
    """The class means, float32 [C, D], and what a score is made of beside the product with them, float64 [C]."""

    vectors_CD: Tensor
    metric: Metric
    norm_C: Tensor
    factor_C: Tensor | None
    bias_C: Tensor | None

    @classmethod
    def of(cls, vectors_CD: Tensor, metric: Metric) -> "_Means":
        norm_C = rowwise_norm(vectors_CD)
        if metric == "cosine":
            return cls(vectors_CD, metric, norm_C, torch.where(norm_C > 0, 1 / norm_C, 0.0), None)
        return cls(vectors_CD, metric, norm_C, None, norm_C.square() / -2)

    def cascade(self, k: int) -> Cascade:
        """Return what to screen with."""
        num_classes, num_features = self.vectors_CD.shape
        grouping = Grouping.of(torch.arange(num_classes), members_for(num_classes, k))
        weight_C = torch.ones(num_classes) if self.factor_C is None else self.factor_C.float()
        shift_D = weight_C @ self.vectors_CD / num_classes

        def shifted(classes: Tensor) -> Tensor:
            return self.vectors_CD[classes].mul_(weight_C[classes][:, None]).sub_(shift_D)

        def plain() -> Screen:
            return PlainScreen(self.vectors_CD, self.factor_C, self.bias_C, grouping)

        if self.metric == "cosine":
            error = 2.0**-21  # of vectors no longer than 1 that are multiplied and subtracted
            finer = [
                ("bfloat16", lambda: RoundedScreen(shifted, error, num_features, grouping)),
                ("float32", plain),
            ]
            # Beyond the nearest, classes are so close together that 8 bits leave too many of them open.
            coarse = [("int8", lambda: ByteScreen(shifted, error, num_features, grouping))] if k == 1 else []
            return Cascade([*coarse, *finer])

        def rounded() -> Screen:
            return RoundedScreen(
                shifted,
                2.0**-22 * float(self.norm_C.max() + shift_D.norm()),
                num_features,
                grouping,
                bias_C=rowwise_norm(self.vectors_CD, shift_D).square() / -2,
                shift_D=shift_D,
            )

        return Cascade([("bfloat16", rounded), ("float32", plain)])

    def values(self, dots: Tensor, classes: Tensor) -> Tensor:
        """Return what to rank by, given products and the classes they are with, float64."""
        if self.factor_C is not None:
            dots = dots * self.factor_C[classes]
        return dots if self.bias_C is None else dots + self.bias_C[classes]


class _Nearest(Search):
    """The search for the k nearest means of a block of features."""

    def __init__(self, features_ND: Tensor, means: _Means, k: int, center_D: Tensor | None) -> None:
        super().__init__(features_ND, means.vectors_CD, center_D)
        self.most_candidates = max(MOST_CANDIDATES, 4 * k)
        self._means = means
        self._k = k
        self._scores_Nk = torch.empty(len(features_ND), k)
        self._classes_Nk = torch.empty(len(features_ND), k, dtype=torch.int64)

    def answers(self, cascade: Cascade) -> tuple[Tensor, Tensor]:
        """Return scores, float32 [N, k], and classes, int64 [N, k]."""
        self.run(cascade)
        return self._scores_Nk, self._classes_Nk

    def threshold(self, scores: Scores, best_NG: Tensor) -> Tensor:
        """At least k groups hold a class that reaches the lower end of the k-th best group."""
        lower_NG = scores.lower(best_NG)
        return lower_NG.topk(self._k, dim=1).values[:, -1:].expand_as(lower_NG)

    def decide(self, rows_N: Tensor, candidates: Candidates) -> None:
        """Rank by float32; whatever lies so near its neighbours that float32 may be wrong is ranked by float64."""
        features_ND = self.features_ND[rows_N]
        error = candidates.error * features_ND.norm(dim=1, keepdim=True).double()
        if self._means.factor_C is None:
            error = error * self._means.norm_C[candidates.classes_NK].amax(dim=1, keepdim=True)
        order_NK, sorted_NK = self._ranked(candidates)
        near_NK = sorted_NK[:, :-1] - sorted_NK[:, 1:] <= 2 * error
        open_NK = torch.zeros_like(candidates.present_NK)
        open_NK[:, 1:] |= near_NK
        open_NK[:, :-1] |= near_NK
        open_NK &= sorted_NK >= sorted_NK[:, self._k - 1, None] - 2 * error
        open_NK = torch.zeros_like(open_NK).scatter_(1, order_NK, open_NK) & candidates.present_NK
        if open_NK.any():
            candidates.settle(open_NK, lambda rows, classes: self.exact_dots(rows_N[rows], classes))
            order_NK, sorted_NK = self._ranked(candidates)
        classes_Nk = candidates.classes_NK.gather(1, order_NK[:, : self._k])
        self._classes_Nk[rows_N] = classes_Nk
        self._scores_Nk[rows_N] = self._scores(rows_N, classes_Nk, sorted_NK[:, : self._k]).float()

    def decide_directly(self, rows_N: Tensor, features_ND: Tensor) -> None:
        """Rank all classes in float64."""
        means = self._means
        self._scores_Nk[rows_N], self._classes_Nk[rows_N] = (
            result.to(into.dtype)
            for result, into in zip(
                reference.ncm_search(features_ND, means.vectors_CD, self._k, means.metric, None),
                (self._scores_Nk, self._classes_Nk),
                strict=True,
            )
        )

    def _ranked(self, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Return the places of the candidates, best first, and their values; equal ones in the order of the classes."""
        values_NK = self._means.values(candidates.dot_NK, candidates.classes_NK)
        values_NK = torch.where(candidates.present_NK, values_NK, -torch.inf)
        sorted_NK, order_NK = values_NK.sort(dim=1, descending=True, stable=True)
        return order_NK, sorted_NK

    def _scores(self, rows_N: Tensor, classes_Nk: Tensor, values_Nk: Tensor) -> Tensor:
        """Turn what was ranked by into cosines or minus distances."""
        features_ND = self.features_ND[rows_N]
        norm_N1 = features_ND.norm(dim=1, keepdim=True).double()
        if self._means.metric == "cosine":
            return torch.where(norm_N1 > 0, values_Nk / norm_N1, 0.0)
        squared_Nk = norm_N1.square() - 2 * values_Nk
        total_Nk = norm_N1.square() + self._means.norm_C[classes_Nk].square()
        rows, places = (squared_Nk < CANCELLED * total_Nk).nonzero(as_tuple=True)
        for part in torch.arange(len(rows)).split(ROWS_OF_A_BLOCK // 2):
            means = self.vectors_CD[classes_Nk[rows[part], places[part]]]
            differences = self.exact_features(rows_N[rows[part]]).sub_(means)
            squared_Nk[rows[part], places[part]] = differences.square().sum(dim=1)
        return -squared_Nk.sqrt()
