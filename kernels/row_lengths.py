"""Lengths of rows with the same bits on every device.

R rows, D features.
"""

import numpy as np
import torch
from torch import Tensor

LANES = 256
"""Running sums of a row: column d is added to sum d mod 256, in ascending order; then halves are added together."""


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
        return torch.from_numpy(
            np.sqrt(sums_RL[:, 0].numpy())
        )  # rounded correctly, which MKL's, behind torch's, is not
    return sums_RL[:, 0].sqrt()


def normalized(rows_RD: Tensor) -> Tensor:
    """Return float64 rows over their lengths; zero stays zero."""
    return rows_RD / row_lengths(rows_RD).clamp_min(torch.finfo(torch.float64).tiny)[:, None]
