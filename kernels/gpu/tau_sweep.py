"""The arg max for every tau of a grid, from two products in bfloat16 and a few scores in float64.

N samples, C classes, D features, T values of tau.
"""

import torch
from torch import Tensor

from ltrsys.kernels.gpu.aligned_rows import aligned_rows
from ltrsys.kernels.gpu.exact_scores import best_of_each_tau, exact_scores
from ltrsys.kernels.gpu.rounded_rows import round_scaled_rows
from ltrsys.kernels.gpu.screening import Candidates, Directions, bounds_of, candidates, greatest_lower_bounds
from ltrsys.kernels.reference import result_type

ROWS = 8192
"""Rows at a time: what is held beyond the result is a few hundred bytes a row, and one copy of the rows in bfloat16."""

CAPACITY = 128
"""Candidates of a row, over all tau; a row that has more is scored against every class."""

ALL_CLASSES_ELEMENTS = 1 << 22
"""Scores against every class that are held at once: 32 MiB in float64."""


def tau_sweep(features_ND: Tensor, weight_CD: Tensor, factors_TC: Tensor) -> Tensor:
    """Return argmax_j factors_tj * x_n.w_j for each t, ties to the lower class id; logits are never stored.

    Args:
        features_ND: Finite floating-point features.
        weight_CD: Finite floating-point class weights.
        factors_TC: ||w_j||^-tau, float64, finite and positive.

    Returns:
        int64 [T, N], what float64 arithmetic gives.
    """
    num_rows = features_ND.shape[0]
    classes_TN = torch.empty(factors_TC.shape[0], num_rows, dtype=torch.int64, device=features_ND.device)
    dtype = result_type(features_ND, weight_CD)
    weight_CD = aligned_rows(weight_CD, dtype)
    directions = _directions(weight_CD, factors_TC) if can_screen(weight_CD) else None
    for first in range(0, num_rows, ROWS):
        block_ND = aligned_rows(features_ND[first : first + ROWS], dtype)
        if directions is None:
            best_TN = _against_every_class(block_ND, weight_CD, factors_TC)
        else:
            best_TN = _screened(block_ND, weight_CD, factors_TC, directions)
        classes_TN[:, first : first + ROWS] = best_TN
    return classes_TN


def can_screen(rows_RD: Tensor) -> bool:
    """Say whether rows can be screened: float32 ones, whose squares float64 can hold."""
    return rows_RD.dtype == torch.float32 and rows_RD.shape[1] > 0


def undecided_rows(found: Candidates, *, at_least: int) -> Tensor:
    """Return the rows that had more candidates than places, int64.

    A row always has the candidates that reach its threshold; one that had fewer would be scored in full just so.
    """
    return ((found.count_N > found.classes_NK.shape[1]) | (found.count_N < at_least)).nonzero()[:, 0]


def _directions(weight_CD: Tensor, factors_TC: Tensor) -> Directions:
    rows = round_scaled_rows(weight_CD, "unit")
    gain_TC = factors_TC * rows.length_R
    # one factor for all classes of a tau changes no arg max
    greatest_T1 = gain_TC.amax(dim=1, keepdim=True)
    return Directions(rows, (gain_TC / torch.where(greatest_T1 > 0, greatest_T1, 1.0)).float())


def _screened(features_ND: Tensor, weight_CD: Tensor, factors_TC: Tensor, directions: Directions) -> Tensor:
    features = round_scaled_rows(features_ND, "power")
    error_N = bounds_of(features, directions)
    threshold_TN = greatest_lower_bounds(features, directions, error_N)
    found = candidates(features, directions, error_N, threshold_TN, CAPACITY)
    best_TN = best_of_each_tau(exact_scores(features_ND, weight_CD, found), found, factors_TC)
    crowded = undecided_rows(found, at_least=1)
    best_TN[:, crowded] = _against_every_class(features_ND[crowded], weight_CD, factors_TC)
    return best_TN


def _against_every_class(features_ND: Tensor, weight_CD: Tensor, factors_TC: Tensor) -> Tensor:
    step = max(1, ALL_CLASSES_ELEMENTS // weight_CD.shape[0])
    blocks = []
    for block_ND in features_ND.split(step):
        scores_NC = exact_scores(block_ND, weight_CD, None)
        blocks.append(torch.stack([(scores_NC * factor_C).argmax(dim=1) for factor_C in factors_TC]))
    return torch.cat(blocks, dim=1)
