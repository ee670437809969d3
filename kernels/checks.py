"""What the operations refuse, in one line each: shapes that do not fit, labels out of range, NaN and infinity.

Shapes and types are checked where an operation is called, and so also while torch.compile traces it; values are
checked where it is computed. What has to be known of them is reduced on their device to a few numbers, which reach the
host together: each transfer waits for all that a GPU has queued.
"""

import math
from collections.abc import Sequence
from itertools import islice
from typing import Literal, get_args

import torch
from torch import Tensor

Metric = Literal["cosine", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)
LARGEST_FACTOR = 1e200
"""Of |w_j|^-tau: a product of float32 vectors, of 1e-90 to 1e84, can be multiplied by it or divided."""


def check_matrix(values: Tensor, name: str) -> None:
    """Refuse anything but a floating-point matrix."""
    if values.ndim != 2 or not values.is_floating_point():
        raise ValueError(
            f"{name} has shape {list(values.shape)} and type {values.dtype}; a floating-point matrix is needed."
        )


def check_class_vectors(vectors_CD: Tensor, name: str, features_ND: Tensor) -> None:
    """Refuse anything but a floating-point matrix [C, D], C at least 1, on the device of the features."""
    check_matrix(vectors_CD, name)
    if vectors_CD.shape[0] == 0:
        raise ValueError(f"{name} has shape {list(vectors_CD.shape)}; at least one class is needed.")
    if vectors_CD.shape[1] != features_ND.shape[1]:
        raise ValueError(
            f"{name} has {vectors_CD.shape[1]} columns, but the features have {features_ND.shape[1]}: "
            "they come from different networks."
        )
    _check_device(vectors_CD, name, features_ND)


def check_per_class(scale_C: Tensor, num_classes: int, features_ND: Tensor) -> None:
    """Refuse anything but one scale per class."""
    if scale_C.shape != (num_classes,):
        raise ValueError(f"scale has shape {list(scale_C.shape)}; it must be [{num_classes}], one a class.")
    _check_device(scale_C, "scale", features_ND)


def check_norms(norms_C: Tensor, weight_CD: Tensor) -> None:
    """Refuse anything but what `row_norms` returns."""
    if norms_C.shape != weight_CD.shape[:1] or norms_C.dtype != torch.float64:
        raise ValueError(
            f"norms has shape {list(norms_C.shape)} and type {norms_C.dtype}; it must be float64 "
            f"[{weight_CD.shape[0]}], row_norms of the weight."
        )
    _check_device(norms_C, "norms", weight_CD)


def check_tau(tau: Tensor) -> None:
    """Refuse anything but one number."""
    if tau.ndim:
        raise ValueError(f"tau has shape {list(tau.shape)}; it must be a number or a tensor without dimensions.")


def check_taus(taus_T: Tensor) -> None:
    """Refuse anything but a list of at least one tau."""
    if taus_T.ndim != 1 or not len(taus_T):
        raise ValueError(f"taus has shape {list(taus_T.shape)}; it must be a list of at least one tau, [T].")


def check_factors(taus: Sequence[float], least: Sequence[float], most: Sequence[float]) -> None:
    """Refuse a tau with which products of float64 would overflow or vanish, given its least and greatest factor."""
    if not all(map(math.isfinite, taus)):
        raise ValueError("taus holds NaN or infinity.")
    for tau, low, high in zip(taus, least, most, strict=True):
        if not 1 / LARGEST_FACTOR <= low <= high <= LARGEST_FACTOR:
            raise ValueError(
                f"taus holds {tau:g}, with which class weights are multiplied by {low:.3g} to {high:.3g}: "
                f"float64 cannot compare such scores. Choose one nearer to 0."
            )


def check_search(k: int, metric: str, num_classes: int) -> None:
    """Refuse a number of classes to be found that there are not, and an unknown metric."""
    if not 1 <= k <= num_classes:
        raise ValueError(f"k={k} is not between 1 and the number of classes, {num_classes}.")
    known_metric(metric)


def known_metric(metric: str) -> Metric:
    """Refuse an unknown metric; return it, known to be one."""
    for known in METRICS:
        if metric == known:
            return known
    raise ValueError(f"metric={metric!r} is unknown; choose {' or '.join(METRICS)}.")


def check_center(center_D: Tensor, features_ND: Tensor) -> None:
    """Refuse anything but one number per feature."""
    if center_D.shape != features_ND.shape[1:]:
        raise ValueError(f"center has shape {list(center_D.shape)}; it must be [{features_ND.shape[1]}], as a feature.")
    _check_device(center_D, "center", features_ND)


def check_labels(labels_N: Tensor, num_rows: int) -> None:
    """Refuse labels that are not one whole number per row."""
    if labels_N.shape != (num_rows,) or labels_N.dtype != torch.int64:
        raise ValueError(
            f"labels has shape {list(labels_N.shape)} and type {labels_N.dtype}; it must be int64 [{num_rows}], "
            "one a feature."
        )


def ends_of(values: Tensor) -> Tensor:
    """Return the lowest and the highest value, [2], on the same device; NaN where one is, 0 where none is."""
    return torch.stack(torch.aminmax(values.detach())) if values.numel() else values.new_zeros(2)


def on_host(*vectors: Tensor) -> list[list[float]]:
    """Bring the numbers of vectors to the host, in one transfer, as float64 holds them."""
    if all(vector.device.type == "cpu" for vector in vectors):
        return [vector.tolist() for vector in vectors]
    numbers = iter(torch.cat([vector.double() for vector in vectors]).cpu().tolist())
    return [list(islice(numbers, len(vector))) for vector in vectors]


def check_finite(values: Tensor, name: str, ends: Sequence[float]) -> float:
    """Refuse NaN and infinity, naming the first row that holds one; return the largest magnitude, given `ends_of`."""
    low, high = ends
    if math.isfinite(low) and math.isfinite(high):
        return max(-low, high)
    if values.ndim < 2:
        raise ValueError(f"{name} holds NaN or infinity.")
    for row, row_values in enumerate(values):
        if not bool(torch.isfinite(row_values).all()):
            raise ValueError(f"{name}[{row}] holds NaN or infinity.")
    return max(-low, high)  # of norms that overflow, not of values


def check_label_range(labels_N: Tensor, num_classes: int, ends: Sequence[float]) -> None:
    """Refuse class ids that there are not, naming the first, given `ends_of`."""
    low, high = ends
    if len(labels_N) and (low < 0 or high >= num_classes):
        row = int(((labels_N < 0) | (labels_N >= num_classes)).nonzero()[0])
        raise ValueError(f"labels[{row}] is {int(labels_N[row])}; class ids go from 0 to {num_classes - 1}.")


def check_rows_of_a_class(counts_C: Tensor, num_rows: int, most: float) -> None:
    """Refuse more rows of a class than sums were made for, given the most of any: they would no longer be exact."""
    if most > num_rows:
        class_id = int((counts_C > num_rows).nonzero()[0])
        raise ValueError(
            f"class {class_id} has {int(counts_C[class_id])} rows by now, "
            f"above the num_rows={num_rows} that the sums were made for."
        )


def _check_device(values: Tensor, name: str, features_ND: Tensor) -> None:
    if values.device != features_ND.device:
        raise ValueError(f"{name} is on {values.device}, but the features are on {features_ND.device}.")
