"""What the operations refuse, in one line each: shapes that do not fit, labels out of range, NaN and infinity."""

import torch
from torch import Tensor


def check_features(features_ND: Tensor) -> None:
    """Refuse anything but a finite floating-point matrix [N, D]."""
    _check_matrix_of_numbers(features_ND, "features")


def check_matrix(values_CD: Tensor, name: str, features_ND: Tensor) -> None:
    """Refuse anything but a finite floating-point matrix [C, D], C at least 1, on the device of the features."""
    _check_matrix_of_numbers(values_CD, name)
    if values_CD.shape[0] == 0:
        raise ValueError(f"{name} has shape {list(values_CD.shape)}; at least one class is needed.")
    if values_CD.shape[1] != features_ND.shape[1]:
        raise ValueError(
            f"{name} has {values_CD.shape[1]} columns, but the features have {features_ND.shape[1]}: "
            "they come from different networks."
        )
    if values_CD.device != features_ND.device:
        raise ValueError(f"{name} is on {values_CD.device}, but the features are on {features_ND.device}.")


def check_per_class(scale_C: Tensor, num_classes: int) -> None:
    """Refuse anything but one scale per class."""
    if scale_C.shape != (num_classes,):
        raise ValueError(f"scale has shape {list(scale_C.shape)}; it must be [{num_classes}], one a class.")


def check_center(center_D: Tensor, features_ND: Tensor) -> None:
    """Refuse anything but one finite number per feature."""
    if center_D.shape != features_ND.shape[1:]:
        raise ValueError(f"center has shape {list(center_D.shape)}; it must be [{features_ND.shape[1]}], as a feature.")
    if not torch.isfinite(center_D).all():
        raise ValueError("center holds NaN or infinity.")


def check_labels(labels_N: Tensor, num_rows: int, num_classes: int) -> None:
    """Refuse labels that are not one class id below `num_classes` per row."""
    if labels_N.shape != (num_rows,) or labels_N.dtype != torch.int64:
        raise ValueError(
            f"labels has shape {list(labels_N.shape)} and type {labels_N.dtype}; it must be int64 [{num_rows}], "
            "one a feature."
        )
    wrong = (labels_N < 0) | (labels_N >= num_classes)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"labels[{row}] is {int(labels_N[row])}; class ids go from 0 to {num_classes - 1}.")


def _check_matrix_of_numbers(values: Tensor, name: str) -> None:
    if values.ndim != 2 or not values.is_floating_point():
        raise ValueError(
            f"{name} has shape {list(values.shape)} and type {values.dtype}; a floating-point matrix is needed."
        )
    finite = torch.isfinite(values)
    if not finite.all():
        row = int((~finite).any(dim=1).nonzero()[0])
        raise ValueError(f"{name}[{row}] holds NaN or infinity.")
