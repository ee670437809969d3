"""`ncm_search` on a CPU: screened by products in low precision, decided by float32 and float64.

Screens rank by factor_j * x.m_j + bias_j: the cosine by factor 1/|m_j|, the Euclidean distance by bias -|m_j|^2/2.
Neither ranking changes when a vector is subtracted from all m_j/|m_j| or, for the distance, from all m_j and x. The
screen subtracts their mean, because its bound is relative to the lengths that remain. What float32 leaves open is
decided by x.m_j/|m_j| and by -|x - m_j|^2/2 in float64.

N samples, C classes, D features, K candidates of a sample at most.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ltrsys.kernels import reference
from ltrsys.kernels.checks import Metric
from ltrsys.kernels.cpu.block_search import MOST_CANDIDATES, BlockSearch, can_be_screened, search_in_blocks
from ltrsys.kernels.cpu.bounded_products import ByteScreen, Cascade, PlainScreen, RoundedScreen, ScreenMaker
from ltrsys.kernels.cpu.exact_scores import ScoredCandidates, exact_squared_distances_of_pairs
from ltrsys.kernels.cpu.screening import Grouping, Scores, Screen, members_for
from ltrsys.kernels.reproducible_sums import lengths_in_blocks

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
    scores_Nk = torch.empty(len(features_ND), k, dtype=torch.float32)
    classes_Nk = torch.empty(len(features_ND), k, dtype=torch.int64)

    def search_of(block: slice) -> BlockSearch:
        return _NearestMeansOfBlock(features_ND[block], means, center_D, scores_Nk[block], classes_Nk[block])

    for rows in search_in_blocks(len(features_ND), ROWS_OF_A_BLOCK, search_of, means.cascade(k)):
        scores_Nk[rows], classes_Nk[rows] = reference.ncm_search(features_ND[rows], class_means_CD, k, metric, center_D)
    return scores_Nk, classes_Nk


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
        norm_C = lengths_in_blocks(vectors_CD)
        if metric == "cosine":
            return cls(vectors_CD, metric, norm_C, torch.where(norm_C > 0, 1 / norm_C, 0.0), None)
        return cls(vectors_CD, metric, norm_C, None, norm_C.square() / -2)

    def cascade(self, k: int) -> Cascade:
        """Return what to screen with."""
        num_classes, num_features = self.vectors_CD.shape
        grouping = Grouping.of(torch.arange(num_classes), members_for(num_classes, k))
        weight_C = self.vectors_CD.new_ones(num_classes) if self.factor_C is None else self.factor_C.float()
        shift_D = weight_C @ self.vectors_CD / num_classes

        def shifted(classes: Tensor) -> Tensor:
            return self.vectors_CD[classes].mul_(weight_C[classes][:, None]).sub_(shift_D)

        def plain() -> Screen:
            return PlainScreen(self.vectors_CD, self.factor_C, self.bias_C, grouping)

        if self.metric == "cosine":
            error = 2.0**-21  # of vectors no longer than 1 that are multiplied and subtracted
            finer: list[ScreenMaker] = [
                ("bfloat16", lambda: RoundedScreen(shifted, error, num_features, grouping)),
                ("float32", plain),
            ]
            # Beyond the nearest, classes are so close together that 8 bits leave too many of them open. A single
            # feature leaves all of them open, and torch multiplies columns of 8-bit numbers wrongly.
            helps = k == 1 and num_features > 1
            coarse: ScreenMaker = ("int8", lambda: ByteScreen(shifted, error, num_features, grouping))
            return Cascade([coarse, *finer] if helps else finer)

        def rounded() -> Screen:
            return RoundedScreen(
                shifted,
                2.0**-22 * float(self.norm_C.max() + shift_D.norm()),
                num_features,
                grouping,
                bias_C=lengths_in_blocks(self.vectors_CD, shift_D.double()).square() / -2,
                shift_D=shift_D,
            )

        return Cascade([("bfloat16", rounded), ("float32", plain)])


class _NearestMeansOfBlock(BlockSearch):
    """The k nearest means of each feature of a block."""

    def __init__(
        self, features_ND: Tensor, means: _Means, center_D: Tensor | None, scores_Nk: Tensor, classes_Nk: Tensor
    ) -> None:
        """Begin; the last two are where the answers go, float32 and int64 [N, k]."""
        super().__init__(features_ND, means.vectors_CD, center_D)
        self._means = means
        self._k = scores_Nk.shape[1]
        self._scores_Nk = scores_Nk
        self._classes_Nk = classes_Nk
        self.most_candidates = max(MOST_CANDIDATES, 4 * self._k)

    def threshold(self, scores: Scores, best_NG: Tensor) -> Tensor:
        """At least k groups hold a class that reaches the lower end of the k-th best group."""
        lower_NG = scores.lower(best_NG)
        return lower_NG.topk(self._k, dim=1).values[:, -1:].expand_as(lower_NG)

    def decide(self, rows_N: Tensor, candidates: ScoredCandidates) -> None:
        """Rank by float32, and by float64 what float32 may order wrongly.

        1. Sort by the float32 values, each of which is wrong by e at most.
        2. Neighbours that differ by more than 2e are in the right order.
        3. Others are ambiguous, unless they lie more than 2e below the k-th: they stay below it.
        4. Compute the ambiguous ones in float64, and sort again.
        """
        classes_NK, present_NK = candidates.classes_NK, candidates.present_NK
        length_N1 = self._lengths(rows_N)
        values_NK, error_N1 = self._values(candidates, length_N1)
        values_NK = torch.where(present_NK, values_NK, -torch.inf)
        sorted_NK, order_NK = _ranked(values_NK)

        close_NK = sorted_NK[:, :-1] - sorted_NK[:, 1:] <= 2 * error_N1  # to the next
        kth_N1 = sorted_NK[:, self._k - 1, None]
        ambiguous_NK = functional.pad(close_NK, (0, 1)) | functional.pad(close_NK, (1, 0))
        ambiguous_NK &= (sorted_NK >= kth_N1 - 2 * error_N1) & present_NK.gather(1, order_NK)

        if ambiguous_NK.any():
            rows, ranks = ambiguous_NK.nonzero(as_tuple=True)
            places = order_NK[rows, ranks]
            values_NK[rows, places] = self._exact_values(rows_N[rows], classes_NK[rows, places])
            sorted_NK, order_NK = _ranked(values_NK)

        classes_Nk = classes_NK.gather(1, order_NK[:, : self._k])
        self._classes_Nk[rows_N] = classes_Nk
        self._scores_Nk[rows_N] = self._scores(rows_N, classes_Nk, sorted_NK[:, : self._k], length_N1).float()

    def _lengths(self, rows_N: Tensor) -> Tensor:
        """Return the lengths of the features, float64 [N, 1]; exact ones where squares of them are compared."""
        if self._means.metric == "cosine":
            return self.features_ND[rows_N].norm(dim=1, keepdim=True).double()
        return lengths_in_blocks(self.exact_features(rows_N))[:, None]

    def _values(self, candidates: ScoredCandidates, length_N1: Tensor) -> tuple[Tensor, Tensor]:
        """Return what to rank by, |x| times the cosine or minus half the squared distance, and the bound of its error.

        Float64 rounds squares too, which counts where they are much larger than the product.
        """
        means, classes_NK = self._means, candidates.classes_NK
        error_N1 = candidates.error * length_N1
        if means.factor_C is not None:
            return candidates.product_NK * means.factor_C[classes_NK], error_N1
        length_NK = means.norm_C[classes_NK]
        longest_N1 = length_NK.amax(dim=1, keepdim=True)
        rounding = (means.vectors_CD.shape[1] + 8) * 2.0**-52
        values_NK = candidates.product_NK - (length_NK.square() + length_N1.square()) / 2
        return values_NK, error_N1 * longest_N1 + rounding * (longest_N1.square() + length_N1.square())

    def _exact_values(self, rows_Q: Tensor, classes_Q: Tensor) -> Tensor:
        """Return the same in float64 for some pairs."""
        if self._means.factor_C is not None:
            return self.exact_products(rows_Q, classes_Q) * self._means.factor_C[classes_Q]
        return self._squared_distances(rows_Q, classes_Q) / -2

    def _squared_distances(self, rows_Q: Tensor, classes_Q: Tensor) -> Tensor:
        return exact_squared_distances_of_pairs(rows_Q, classes_Q, self.exact_features, self.vectors_CD)

    def _scores(self, rows_N: Tensor, classes_Nk: Tensor, values_Nk: Tensor, length_N1: Tensor) -> Tensor:
        """Turn what was ranked by into cosines or minus distances."""
        if self._means.metric == "cosine":
            return torch.where(length_N1 > 0, values_Nk / length_N1, 0.0)
        squared_Nk = -2 * values_Nk
        total_Nk = length_N1.square() + self._means.norm_C[classes_Nk].square()
        rows, places = (squared_Nk < CANCELLED * total_Nk).nonzero(as_tuple=True)
        squared_Nk[rows, places] = self._squared_distances(rows_N[rows], classes_Nk[rows, places])
        return -squared_Nk.sqrt()


def _ranked(values_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Return values, best first, and their places; equal ones in the order of the classes."""
    return values_NK.sort(dim=1, descending=True, stable=True)
