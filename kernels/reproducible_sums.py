"""Sums and row lengths with the same bits on every device, in any blocks and by any number of threads.

**Sums of rows** do not depend on the order of addition, because every addition is exact: if all numbers are multiples
of a power of two q, and every partial sum is below 2^53 q, then float64 holds each of them without rounding. So each
number is rounded to a multiple of such a q first. For 437,513 numbers below 1, q is 2^-33: the rounding of each is at
most 2^-34, less than float32 loses in a single addition at that size. (Demmel and Nguyen, Fast Reproducible
Floating-Point Summation, 2013.)

**Lengths of rows** are rounded, but their squares are added in a fixed order.

R rows, D features.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LANES = 256
"""Running sums of a row: column d is added to sum d mod 256, in ascending order; then halves are added together."""
ROWS_AT_ONCE = 256
"""Rows of which a copy in float64 is held at a time."""


@dataclass(frozen=True)
class Quantum:
    """What every number is rounded to a multiple of: a power of two."""

    value: float

    @classmethod
    def of(cls, largest: float, num_rows: int) -> "Quantum":
        """Choose the smallest that keeps sums of up to `num_rows` numbers of magnitude `largest` exact.

        Raises:
            ValueError: Where float64 has no such number.
        """
        if largest == 0.0 or num_rows == 0:
            return cls(2.0**-52)
        _, exponent = math.frexp(largest)  # largest < 2**exponent
        power = exponent + max(1, num_rows - 1).bit_length() - 52
        if not -1022 <= power <= 970:
            raise ValueError(f"features of magnitude {largest:.3g} are outside of what float64 can add up exactly.")
        return cls(math.ldexp(1.0, power))

    @property
    def shifter(self) -> float:
        """A number that is so large that adding to it rounds to a multiple of the quantum."""
        return 1.5 * 2.0**52 * self.value

    def round_(self, values: Tensor) -> Tensor:
        """Round float64 values to nearest multiples, ties to even, in place."""
        return values.add_(self.shifter).sub_(self.shifter)


def row_lengths(rows_RD: Tensor) -> Tensor:
    """Return the L2 norm of float64 rows, [R], the squares being added in a fixed order.

    `torch.linalg.norm` adds in an order that depends on the processor. `gpu/cuda/class_sums.h` has the same order.
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
