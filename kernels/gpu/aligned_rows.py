"""Rows as the kernels want them, so that each kernel is compiled in one way and not for every shape and type."""

import torch
from torch import Tensor
from torch.nn import functional

COLUMNS = 16
"""Columns are padded with zeros to a multiple of this, or another."""

BYTES = 16
"""Memory begins at a multiple of this: what one thread reads at a time."""


def aligned_rows(rows_RD: Tensor, dtype: torch.dtype, columns: int = COLUMNS) -> Tensor:
    """Return rows in `dtype`, contiguous and padded with columns of zeros; the same tensor where it is so already."""
    padding = -rows_RD.shape[1] % columns
    rows_RD = functional.pad(rows_RD.to(dtype), (0, padding)) if padding else rows_RD.to(dtype).contiguous()
    return rows_RD if rows_RD.data_ptr() % BYTES == 0 else rows_RD.clone()


def aligned_center(center_D: Tensor) -> Tensor:
    """Return a center in float64, padded likewise."""
    return aligned_rows(center_D[None], torch.float64)[0]
