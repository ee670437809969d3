"""The k nearest class means, from two products in bfloat16 and a few scores in float64.

N samples, C classes, D features.
"""

import torch
from torch import Tensor

from ltrsys.kernels.checks import Metric
from ltrsys.kernels.gpu.exact_scores import ALL_CLASSES_ELEMENTS, exact_scores
from ltrsys.kernels.gpu.prepared_rows import Scaling, aligned_center, aligned_rows, round_scaled_rows
from ltrsys.kernels.gpu.screening import (
    GROUP,
    ROWS_OF_A_BLOCK,
    Directions,
    bounds_of,
    can_screen,
    candidates,
    kth_lower_bounds,
    undecided_rows,
)
from ltrsys.kernels.reference import result_type

MOST_SCREENED = 128
"""More neighbours than this are found among the scores of all classes."""


def ncm_search(
    features_ND: Tensor,
    class_means_CD: Tensor,
    k: int,
    metric: Metric,
    center_D: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Find the k nearest class means of each feature; the scores of all classes are never stored.

    Args:
        features_ND: Finite floating-point features.
        class_means_CD: Finite floating-point class means, in the space of the centred features.
        k: 1 to C.
        metric: `cosine`, 0 for a zero vector, or `euclidean`: minus the distance.
        center_D: Subtracted from the features.

    Returns:
        Scores, float32 [N, k] (float64 where an input is), and classes, int64 [N, k]: best first, equal scores by
        class id, as float64 arithmetic has them.
    """
    num_rows, num_classes = features_ND.shape[0], class_means_CD.shape[0]
    dtype = result_type(features_ND, class_means_CD)
    means_CD = aligned_rows(class_means_CD, dtype)
    search = _NearestMeans(means_CD, k, metric, None if center_D is None else aligned_center(center_D))
    scores_Nk = torch.empty(num_rows, k, dtype=dtype, device=features_ND.device)
    classes_Nk = torch.empty(num_rows, k, dtype=torch.int64, device=features_ND.device)
    # a threshold is found among k groups of classes
    screened = can_screen(means_CD) and k <= MOST_SCREENED and num_classes >= k * GROUP
    if screened:
        search.round_means(features_ND)
    step = ROWS_OF_A_BLOCK if screened else max(1, ALL_CLASSES_ELEMENTS // num_classes)
    for first in range(0, num_rows, step):
        rows = slice(first, first + step)
        block_ND = aligned_rows(features_ND[rows], dtype)
        scores_Nk[rows], classes_Nk[rows] = search.screened(block_ND) if screened else search.among_all(block_ND)
    return scores_Nk, classes_Nk


class _NearestMeans:
    """What all blocks of rows share."""

    def __init__(self, class_means_CD: Tensor, k: int, metric: Metric, center_D: Tensor | None) -> None:
        self.class_means_CD = class_means_CD
        self.k = k
        self.distance = metric == "euclidean"
        self.center_D = center_D
        self.mean_length_C = class_means_CD.double().norm(dim=1)

    def round_means(self, features_ND: Tensor) -> None:
        """Prepare screening, whose bound is relative to the lengths of what is multiplied.

        The cosine ranks by x.u_j, u_j = m_j / |m_j|, and so by x.(u_j - u) with any vector u: the mean of the u_j makes
        them short where the means lie in one direction, as those of features that are not negative do.

        The distance ranks by x.m_j - |m_j|^2 / 2. It stays the same when features and means are moved together; moved
        by the mean of the class means both are shorter. Both are then multiplied by a number that leaves none longer
        than 1.
        """
        if not self.distance:
            self.scale, self.moved_by_D = None, self.center_D
            rows = round_scaled_rows(self.class_means_CD, "unit", shift_D=self._mean_direction())
            gain_1C = torch.ones(1, len(rows.length_R), dtype=torch.float32, device=rows.length_R.device)
            self.directions = Directions(rows, gain_1C)
            return
        middle_D = self.class_means_CD.mean(dim=0, dtype=torch.float64)
        self.moved_by_D = middle_D if self.center_D is None else self.center_D + middle_D
        rows = round_scaled_rows(self.class_means_CD, "unit", middle_D)
        longest = rows.length_R.max()
        if len(features_ND):
            least, most = features_ND.aminmax()
            largest = torch.maximum(-least, most).double()
            longest = torch.maximum(longest, largest * features_ND.shape[1] ** 0.5 + self.moved_by_D.norm())
        self.scale = longest.clamp_min(torch.finfo(torch.float32).tiny).reciprocal().reshape(1)
        gain_C = rows.length_R * self.scale
        self.directions = Directions(rows, gain_C.float()[None], (gain_C.square() / 2).float())

    def _mean_direction(self) -> Tensor:
        length_C = torch.where(self.mean_length_C > 0, self.mean_length_C, 1.0)
        total_D = torch.zeros(self.class_means_CD.shape[1], dtype=torch.float64, device=length_C.device)
        blocks = zip(self.class_means_CD.split(ROWS_OF_A_BLOCK), length_C.split(ROWS_OF_A_BLOCK), strict=True)
        for means, lengths in blocks:
            total_D += (means.double() / lengths[:, None]).sum(dim=0)
        return total_D / len(length_C)

    def screened(self, features_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Find the k nearest among the classes that screening leaves."""
        scaling: Scaling = "given" if self.distance else "power"
        features = round_scaled_rows(features_ND, scaling, self.moved_by_D, scale=self.scale)
        error_N = bounds_of(features, self.directions)
        threshold_1N = kth_lower_bounds(features, self.directions, error_N, self.k)
        found = candidates(features, self.directions, error_N, threshold_1N, _capacity(self.k))
        crowded = undecided_rows(found, at_least=self.k)
        places_K = torch.arange(found.classes_NK.shape[1], device=error_N.device)
        absent_NK = places_K >= found.count_N[:, None]
        # by class id, so that a stable sort by score leaves equal scores in this order; absent ones last
        classes_NK = found.classes_NK.long().masked_fill(absent_NK, len(self.class_means_CD)).sort(dim=1).values
        found.classes_NK.copy_(classes_NK)
        scores_NK = exact_scores(
            features_ND, self.class_means_CD, found, distance=self.distance, center_D=self.center_D
        )
        scores_NK = self._comparable(scores_NK, classes_NK.clamp_max(len(self.class_means_CD) - 1))
        scores_Nk, order_Nk = self._best(scores_NK.masked_fill(absent_NK, -torch.inf))
        scores_Nk = self._finished(scores_Nk, features.length_R)
        classes_Nk = classes_NK.gather(1, order_Nk)
        step = max(1, ALL_CLASSES_ELEMENTS // len(self.class_means_CD))
        for rows in crowded.split(step):
            scores_Nk[rows], classes_Nk[rows] = self.among_all(features_ND[rows])
        return scores_Nk, classes_Nk

    def among_all(self, features_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Find the k nearest among all classes."""
        scores_NC = exact_scores(features_ND, self.class_means_CD, None, distance=self.distance, center_D=self.center_D)
        scores_Nk, classes_Nk = self._best(self._comparable(scores_NC))
        moved_ND = features_ND.double() if self.center_D is None else features_ND.double() - self.center_D
        return self._finished(scores_Nk, moved_ND.norm(dim=1)), classes_Nk

    def _comparable(self, scores_NK: Tensor, classes_NK: Tensor | None = None) -> Tensor:
        """Turn products into cosines times the length of the feature, and change the sign of squared distances."""
        if self.distance:
            return -scores_NK
        length = self.mean_length_C if classes_NK is None else self.mean_length_C[classes_NK]
        return scores_NK / torch.where(length > 0, length, 1.0)

    def _finished(self, scores_Nk: Tensor, length_N: Tensor) -> Tensor:
        """Turn what was compared into scores."""
        if self.distance:
            return -(-scores_Nk).sqrt()
        return scores_Nk / torch.where(length_N > 0, length_N, 1.0)[:, None]

    def _best(self, scores_NK: Tensor) -> tuple[Tensor, Tensor]:
        order_NK = scores_NK.argsort(dim=1, descending=True, stable=True)[:, : self.k]
        return scores_NK.gather(1, order_NK), order_NK


def _capacity(k: int) -> int:
    """Return how many candidates of a row there is place for, a power of two; rows with more are scored in full."""
    return max(64, 1 << (4 * k + 31).bit_length())
