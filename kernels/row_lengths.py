"""Lengths of rows with the same bits on every device.

R rows, D features.
"""

import numpy as np
import torch
from torch import Tensor

LANES = 256
"""Running sums of a row: column d is added to sum d mod 256, in ascending order; then halves are added together."""
ROWS_AT_ONCE = 256


def row_lengths(rows_RD: Tensor) -> Tensor:
    """Return the L2 norm of float64 rows, [R], the squares being added in a fixed order.

    `torch.linalg.norm` adds in an order that depends on the processor. `kernels/gpu/class_sums.h` has the same order.
    """
    sums_RL = rows_RD.new_zeros(len(rows_RD), LANES)
    for columns_RL in rows_RD.split(LANES, dim=1):
        sums_RL[:, : columns_RL.shape[1]] += columns_RL * columns_RL
    while sums_RL.shape[1] > 1:
        first_RL, second_RL = sums_RL.chunk(2, dim=1)
        sums_RL = first_RL + second_RL
    if sums_RL.device.type == "cpu":
        # rounded correctly, which MKL's, behind torch's, is not
        return torch.from_numpy(np.sqrt(sums_RL[:, 0].numpy()))
    return sums_RL[:, 0].sqrt()


def lengths_in_blocks(rows_RD: Tensor, center_D: Tensor | None = None) -> Tensor:
    """Return the L2 norm of rows of any type, less a centre, float64 [R]; a few rows at a time are held in float64."""
    parts = (part.double() for part in rows_RD.split(ROWS_AT_ONCE))
    return torch.cat([row_lengths(part if center_D is None else part - center_D) for part in parts])


def normalized(rows_RD: Tensor) -> Tensor:
    """Return float64 rows over their lengths; zero stays zero."""
    return rows_RD / row_lengths(rows_RD).clamp_min(torch.finfo(torch.float64).tiny)[:, None]
