"""The four operations of the second stage in plain torch, to be read beside the paper.

They run on any device, need memory for one block of rows beyond their results, and are the measure of any
faster version. N samples, C classes, D features, T values of tau. Computed in float32, or in float64 where the
input is; narrower types are widened first. Ties go to the lower class id.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from ltrsys.kernels.checks import check_center, check_features, check_labels, check_matrix, check_per_class

BLOCK_ELEMENTS = 1 << 24
"""Scores that are held at once: 64 MiB in float32."""

Metric = Literal["cosine", "euclidean"]


def tau_logits(features_ND: Tensor, weight_CD: Tensor, tau: float | Tensor, scale: Tensor | None = None) -> Tensor:
    """Logits of a classifier whose weights are divided by their norms to the power tau (paper, equation 3).

    Args:
        features_ND: Features, [N, D].
        weight_CD: Class weights, [C, D]. A row of zeros gives the logit 0 whatever tau is.
        tau: 0 is the plain classifier without bias, 1 normalises fully; a scalar tensor can be learned.
        scale: A further factor per class, [C]; with tau = 0 this is learnable weight scaling (equation 4).

    Returns:
        [N, C], differentiable in features, weight, tau and scale.

    Raises:
        ValueError: For shapes that do not fit, and for features or weights that are NaN or infinite.
    """
    check_features(features_ND)
    check_matrix(weight_CD, "weight", features_ND)
    if scale is not None:
        check_per_class(scale, weight_CD.shape[0])
    features_ND, weight_CD = _widen(features_ND), _widen(weight_CD)
    factor_C = norm_factor(weight_CD, tau)
    if scale is not None:
        factor_C = factor_C * scale
    return (features_ND @ weight_CD.T) * factor_C


def tau_sweep(features_ND: Tensor, weight_CD: Tensor, taus: Tensor) -> Tensor:
    """Predictions of the tau-normalised classifier for each tau of a grid, from one product.

    Args:
        features_ND: Features, [N, D].
        weight_CD: Class weights, [C, D].
        taus: The grid, [T].

    Returns:
        int64 [T, N], the arg max over the classes.

    Raises:
        ValueError: For shapes that do not fit, and for features or weights that are NaN or infinite.
    """
    check_features(features_ND)
    check_matrix(weight_CD, "weight", features_ND)
    if taus.ndim != 1 or not len(taus):
        raise ValueError(f"taus has shape {list(taus.shape)}; it must be a list of at least one tau, [T].")
    weight_CD = _widen(weight_CD)
    factors_TC = torch.stack([norm_factor(weight_CD, float(tau)) for tau in taus])
    classes_TN = torch.empty(len(taus), features_ND.shape[0], dtype=torch.int64, device=features_ND.device)
    for rows in _blocks(features_ND.shape[0], weight_CD.shape[0]):
        logits_NC = _widen(features_ND[rows]) @ weight_CD.T
        for classes_N, factor_C in zip(classes_TN, factors_TC, strict=True):
            classes_N[rows] = (logits_NC * factor_C).argmax(dim=1)
    return classes_TN


def ncm_search(
    features_ND: Tensor,
    class_means_CD: Tensor,
    k: int = 1,
    metric: Metric = "cosine",
    center: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the k nearest class means of each feature (paper, section 4, NCM).

    The scores are computed in float64: the square of a small Euclidean distance is the difference of two large
    numbers, which float32 cannot hold.

    Args:
        features_ND: Features, [N, D].
        class_means_CD: Class means, [C, D], in the space of the centred features if `center` is given.
        k: How many, 1 to C.
        metric: `cosine` of the angle between them, or `euclidean`: minus the distance.
        center: Subtracted from the features, [D].

    Returns:
        Scores, [N, k], and classes, int64 [N, k]; best first.

    Raises:
        ValueError: For shapes that do not fit, an unknown metric, and features or means that are NaN or infinite.
    """
    check_features(features_ND)
    check_matrix(class_means_CD, "class_means", features_ND)
    num_classes = class_means_CD.shape[0]
    if not 1 <= k <= num_classes:
        raise ValueError(f"k={k} is not between 1 and the number of classes, {num_classes}.")
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric={metric!r} is unknown; choose cosine or euclidean.")
    if center is not None:
        check_center(center, features_ND)
    means_CD = class_means_CD.double()
    if metric == "cosine":
        means_CD = torch.nn.functional.normalize(means_CD, eps=torch.finfo(torch.float64).tiny)
    scores_Nk = torch.empty(features_ND.shape[0], k, dtype=_widen(features_ND[:0]).dtype, device=features_ND.device)
    classes_Nk = torch.empty_like(scores_Nk, dtype=torch.int64)
    for rows in _blocks(features_ND.shape[0], num_classes):
        block_ND = features_ND[rows].double()
        if center is not None:
            block_ND = block_ND - center.double()
        if metric == "cosine":
            block_ND = torch.nn.functional.normalize(block_ND, eps=torch.finfo(torch.float64).tiny)
            scores_NC = block_ND @ means_CD.T
        else:
            scores_NC = -torch.cdist(block_ND, means_CD)
        classes_Nk[rows] = top_classes(scores_NC, k)
        scores_Nk[rows] = scores_NC.gather(1, classes_Nk[rows]).to(scores_Nk.dtype)
    return scores_Nk, classes_Nk


def class_sums(
    features_ND: Tensor, labels_N: Tensor, num_classes: int, normalize: bool = False, center: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum the features of each class; divided by the counts, its mean.

    The same bits at every run: each class is added up in the order of its rows, in float64.

    Args:
        features_ND: Features, [N, D].
        labels_N: Class ids, int64 [N].
        num_classes: C.
        normalize: Divide each feature, centred if so asked, by its L2 norm first; zero stays zero.
        center: Subtracted from each feature first, [D].

    Returns:
        Sums, [C, D], and counts, int64 [C]; both zero for a class without a sample.

    Raises:
        ValueError: For shapes that do not fit, labels out of range, and features that are NaN or infinite.
    """
    check_features(features_ND)
    check_labels(labels_N, features_ND.shape[0], num_classes)
    if center is not None:
        check_center(center, features_ND)
    num_features = features_ND.shape[1]
    sums_CD = torch.zeros(num_classes, num_features, dtype=torch.float64, device=features_ND.device)
    counts_C = torch.zeros(num_classes, dtype=torch.int64, device=features_ND.device)
    for rows in _blocks(features_ND.shape[0], num_features):
        block_ND = features_ND[rows].double()
        if center is not None:
            block_ND = block_ND - center.double()
        if normalize:
            block_ND = torch.nn.functional.normalize(block_ND, eps=torch.finfo(torch.float64).tiny)
        order_N = labels_N[rows].argsort(stable=True)
        classes, lengths = labels_N[rows].unique(return_counts=True)
        # not index_add_, whose order of addition on a GPU changes from run to run
        sums_CD[classes] += torch.segment_reduce(block_ND[order_N], "sum", lengths=lengths, axis=0)
        counts_C[classes] += lengths
    return sums_CD.to(_widen(features_ND[:0]).dtype), counts_C


def norm_factor(weight_CD: Tensor, tau: float | Tensor) -> Tensor:
    """Return 1 / ||w_j||**tau, [C]; 1 for a row of zeros, whose logit is 0 anyway."""
    squared_C = weight_CD.square().sum(dim=1)
    return torch.where(squared_C > 0, squared_C, 1.0) ** (-tau / 2)


def top_classes(scores_NC: Tensor, k: int) -> Tensor:
    """Return the k best classes of each row, int64 [N, k], best first; ties go to the lower class id.

    `torch.topk` breaks ties as it likes; `argmax` takes the first.
    """
    remaining_NC = scores_NC.clone() if k > 1 else scores_NC
    best = [remaining_NC.argmax(dim=1)]
    while len(best) < k:
        remaining_NC.scatter_(1, best[-1][:, None], -torch.inf)
        best.append(remaining_NC.argmax(dim=1))
    return torch.stack(best, dim=1)


def _widen(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    step = max(1, BLOCK_ELEMENTS // max(1, num_columns))
    return (slice(first, first + step) for first in range(0, num_rows, step))
