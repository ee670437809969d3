"""The four operations in plain torch, to be read beside the paper.

They run on any device, and are the measure of any faster version: the searches are computed in float64, whatever the
type of the input. N samples, C classes, D features, T values of tau. Ties go to the lower class id.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ltrsys.kernels.checks import Metric
from ltrsys.kernels.reproducible_sums import Quantum, lengths_in_blocks, normalized

BLOCK_ELEMENTS = 1 << 22
"""Scores that are held at once: 32 MiB in float64."""
ROWS_FOR_SUMS = 16
"""Blocks of sums are smaller by this, to stay in the caches."""
SORT_FROM = 16
"""From this k on, sorting all classes is faster than taking the best one k times."""


def result_type(*inputs: Tensor) -> torch.dtype:
    """Return float64 if an input is, else float32, which holds narrower types exactly."""
    return torch.float64 if any(values.dtype == torch.float64 for values in inputs) else torch.float32


def tau_logits(features_ND: Tensor, weight_CD: Tensor, tau: float | Tensor, scale_C: Tensor | None = None) -> Tensor:
    """Logits of a classifier whose weights are divided by their norms to the power tau (equation 3), [N, C]."""
    dtype = result_type(features_ND, weight_CD)
    features_ND, weight_CD = features_ND.to(dtype), weight_CD.to(dtype)
    factor_C = norm_factor(weight_CD, tau)
    if scale_C is not None:
        factor_C = factor_C * scale_C
    return (features_ND @ weight_CD.T) * factor_C


def tau_sweep(features_ND: Tensor, weight_CD: Tensor, taus_T: Tensor) -> Tensor:
    """Return the arg max over the classes for each tau, int64 [T, N]."""
    weight_CD = weight_CD.double()
    factors_TC = norm_factors(weight_CD, taus_T)
    lowest_C = lowest_equal(weight_CD)
    classes_TN = torch.empty(len(taus_T), features_ND.shape[0], dtype=torch.int64, device=features_ND.device)
    for rows in _blocks(features_ND.shape[0], weight_CD.shape[0]):
        scores_NC = (features_ND[rows].double() @ weight_CD.T)[:, lowest_C]
        for classes_N, factor_C in zip(classes_TN, factors_TC, strict=True):
            classes_N[rows] = (scores_NC * factor_C).argmax(dim=1)
    return classes_TN


def ncm_search(
    features_ND: Tensor, class_means_CD: Tensor, k: int, metric: Metric, center_D: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the scores, [N, k], and the classes, int64 [N, k], of the k nearest class means (section 4, NCM)."""
    means_CD = class_means_CD.double()
    if metric == "cosine":
        means_CD = normalized(means_CD)
    lowest_C = lowest_equal(means_CD)
    dtype = result_type(features_ND, class_means_CD)
    scores_Nk = torch.empty(features_ND.shape[0], k, dtype=dtype, device=features_ND.device)
    classes_Nk = torch.empty_like(scores_Nk, dtype=torch.int64)
    for rows in _blocks(features_ND.shape[0], means_CD.shape[0]):
        block_ND = features_ND[rows].double()
        if center_D is not None:
            block_ND = block_ND - center_D.double()
        if metric == "cosine":
            scores_NC = normalized(block_ND) @ means_CD.T
        else:
            # of differences: |x|^2 - 2 x.m + |m|^2, which is faster, loses small distances far from the origin
            scores_NC = -torch.cdist(block_ND, means_CD, compute_mode="donot_use_mm_for_euclid_dist")
        scores_NC = scores_NC[:, lowest_C]
        classes_Nk[rows] = top_classes(scores_NC, k)
        scores_Nk[rows] = scores_NC.gather(1, classes_Nk[rows]).to(scores_Nk.dtype)
    return scores_Nk, classes_Nk


def add_class_sums(
    sums_CD: Tensor,
    features_ND: Tensor,
    labels_N: Tensor,
    quantum: Quantum,
    normalize: bool,
    center_D: Tensor | None,
) -> None:
    """Add the features of each class, rounded to multiples of `quantum`, to float64 sums, in place."""
    for rows in _blocks(features_ND.shape[0], ROWS_FOR_SUMS * features_ND.shape[1]):
        block_ND = features_ND[rows].double()
        if center_D is not None:
            block_ND = block_ND - center_D.double()
        if normalize:
            block_ND = normalized(block_ND)
        sums_CD.index_add_(0, labels_N[rows], quantum.round_(block_ND))


def norm_factor(weight_CD: Tensor, tau: float | Tensor) -> Tensor:
    """Return 1 / ||w_j||**tau, [C]; 1 for a row of zeros, whose logit is 0 anyway."""
    squared_C = weight_CD.square().sum(dim=1)
    return torch.where(squared_C > 0, squared_C, 1.0) ** (-tau / 2)


def norm_factors(weight_CD: Tensor, taus_T: Tensor) -> Tensor:
    """Return `norm_factor` for each tau, float64 [T, C]: the same bits wherever a class stands, so that equal ones tie.

    Taus with which float64 cannot hold them are refused by `check_factors`.
    """
    length_C = lengths_in_blocks(weight_CD)
    # Vectorised, torch's power differs in the last bit from what it gives for the rest at the end of a tensor.
    lengths, number_C = torch.where(length_C > 0, length_C, 1.0).unique(return_inverse=True)
    return (lengths ** -taus_T.double()[:, None])[:, number_C]


def top_classes(scores_NC: Tensor, k: int) -> Tensor:
    """Return the k best classes of each row, int64 [N, k], best first; ties go to the lower class id.

    `torch.topk` breaks ties as it likes; `argmax` takes the first, and a stable sort keeps the order. Classes that
    were taken are marked by minus infinity, which no other may have then.
    """
    if k >= SORT_FROM or (k > 1 and bool(scores_NC.isneginf().any())):
        return scores_NC.sort(dim=1, descending=True, stable=True).indices[:, :k]
    remaining_NC = scores_NC.clone() if k > 1 else scores_NC
    best = [remaining_NC.argmax(dim=1)]
    while len(best) < k:
        remaining_NC.scatter_(1, best[-1][:, None], -torch.inf)
        best.append(remaining_NC.argmax(dim=1))
    return torch.stack(best, dim=1)


def lowest_equal(vectors_CD: Tensor) -> Tensor:
    """Return for each class the lowest class with the same vector, float64 [C, D], as int64 [C].

    A matrix product may round equal columns differently, depending on where they stand; equal classes tie all the
    same. Vectors with the same hash are compared; those that differ from the lowest of them are gone through again.
    """
    bits_CD = (vectors_CD + 0.0).view(torch.int64)  # -0 becomes 0
    _, group_C = _hashes(bits_CD).unique(return_inverse=True)
    classes_C = torch.arange(len(bits_CD), device=bits_CD.device)
    lowest_C = torch.full_like(classes_C, len(bits_CD)).scatter_reduce_(0, group_C, classes_C, "amin")[group_C]
    others_Q = (bits_CD != bits_CD[lowest_C]).any(dim=1).nonzero()[:, 0]
    if len(others_Q):
        lowest_C[others_Q] = others_Q[lowest_equal(vectors_CD[others_Q])]
    return lowest_C


def _hashes(bits_CD: Tensor) -> Tensor:
    """Return a hash of each row of float64 numbers' bits, int64 [C]: seldom the same for different rows.

    Multiples of a power of two stay such multiples when they are multiplied and added, and many numbers have few other
    bits than the upper ones: these are brought down first. Multipliers without a pattern meet none in the data.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    multiplier_D = torch.randint(-(2**63), 2**63 - 1, bits_CD.shape[1:], generator=generator, device="cpu") | 1
    mixed_CD = (bits_CD >> 32).bitwise_and_(0xFFFFFFFF).bitwise_xor_(bits_CD)
    return mixed_CD.mul_(multiplier_D.to(bits_CD.device)).sum(dim=1)


def _blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    step = max(1, BLOCK_ELEMENTS // max(1, num_columns))
    return (slice(first, first + step) for first in range(0, num_rows, step))
