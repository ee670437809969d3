"""The arg max for every tau of a grid, from two products in bfloat16 and a few scores in float64.

N samples, C classes, D features, T values of tau.
"""

import torch
from torch import Tensor

from ltrsys.kernels.gpu.exact_scores import ALL_CLASSES_ELEMENTS, best_of_each_tau, exact_scores
from ltrsys.kernels.gpu.prepared_rows import aligned_rows, round_scaled_rows
from ltrsys.kernels.gpu.screening import (
    ROWS_OF_A_BLOCK,
    Directions,
    bounds_of,
    can_screen,
    candidates,
    greatest_lower_bounds,
    undecided_rows,
)
from ltrsys.kernels.reference import result_type

CAPACITY = 128
"""Candidates of a row, over all tau; a row that has more is scored against every class."""


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
    for first in range(0, num_rows, ROWS_OF_A_BLOCK):
        block_ND = aligned_rows(features_ND[first : first + ROWS_OF_A_BLOCK], dtype)
        if directions is None:
            best_TN = _against_every_class(block_ND, weight_CD, factors_TC)
        else:
            best_TN = _screened(block_ND, weight_CD, factors_TC, directions)
        classes_TN[:, first : first + ROWS_OF_A_BLOCK] = best_TN
    return classes_TN


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
