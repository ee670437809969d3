"""How far a product in low precision can be from the exact one: what makes screening with it safe.

R rows, N samples, C classes, D features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ACCUMULATION_UNIT = 2.0**-22
"""Bound of the relative error of one addition in a float32 accumulator. Rounding to nearest errs by 2^-24; tensor
cores align the terms of a sum and truncate them, which is allowed four times as much."""

SMALLEST, LARGEST = 1e-12, 1e12
"""Between these the largest element of a row must lie, or the row be 0. Within them no square overflows, and what
underflows is covered by the bounds."""


@dataclass(frozen=True)
class RoundedRows:
    """Rows in low precision, with what the rounding took from each."""

    values_RD: Tensor
    """The rows, rounded to nearest, [R, D]."""
    norm_R: Tensor
    """At least the L2 norm of each rounded row, float32 [R]."""
    residual_R: Tensor
    """At least the L2 norm of what the rounding took from each row, float32 [R]."""


def round_rows(rows_RD: Tensor, dtype: torch.dtype) -> RoundedRows:
    """Round rows, float32 or float64 [R, D] within SMALLEST and LARGEST, to `dtype`; measure what that takes from each.

    The difference of a number and its rounding to fewer bits is exact in the number's own type. The norms are
    computed in that type too, and enlarged by what a sum of D squares, in any order, can lose; squares that
    underflow are at most D * 2^-126 together.
    """
    values_RD = rows_RD.to(dtype)
    rounded_RD = values_RD.to(rows_RD.dtype)
    num_features = rows_RD.shape[1]
    slack = 1.0 + 2.0 * max(num_features * torch.finfo(rows_RD.dtype).eps, 2.0**-20)
    underflow = num_features**0.5 * 2.0**-63
    norm_R = rounded_RD.norm(dim=1).mul_(slack).add_(underflow)
    residual_R = rounded_RD.sub_(rows_RD).norm(dim=1).mul_(slack).add_(underflow)
    return RoundedRows(values_RD, norm_R.float(), residual_R.float())


def product_error(features: RoundedRows, classes: RoundedRows) -> Tensor:
    r"""Bound, for each feature, how far the product of the rounded rows is from the exact one, float32 [N].

    Write x for a feature, w for the vector of a class, x' and w' for the rounded rows. Then

        x.w - x'.w' = (x - x').w + x'.(w - w'),

    and by Cauchy and Schwarz

        |x.w - x'.w'| <= |x - x'| max_j |w_j| + |x'| max_j |w_j - w_j'|.

    The residuals are measured, not bounded by the format: for bfloat16 about 0.0017 of the norm, less than half of
    its unit roundoff 2^-8. The product of two bfloat16 numbers has 16 bits and is exact in float32; adding D of them
    in any order errs by at most

        D * unit * sum_d |x'_d w'_d| <= D * unit * |x'| |w'|,

    with `unit` = ACCUMULATION_UNIT. Numbers below 2^-126 may be flushed to 0 on the way in and out, which costs at
    most D * 2^-126 * (|x'| + |w'| + 1). The last factor covers the rounding of this formula itself.

    For float32 rows that are not rounded the residuals are 0, and `unit` covers the rounding of the products too.
    """
    num_features = features.values_RD.shape[1]
    largest_norm = classes.norm_R.max()
    largest_residual = classes.residual_R.max()
    accumulated = num_features * ACCUMULATION_UNIT * largest_norm
    flushed = num_features * 2.0**-126 * (features.norm_R + largest_norm + 1.0)
    by_features_N = features.residual_R * (largest_norm + largest_residual)
    by_classes_N = features.norm_R * (largest_residual + accumulated)
    return (by_features_N + by_classes_N + flushed) * (1.0 + 2.0**-20)
