"""Sums that do not depend on the order of addition, because every addition is exact.

If all numbers are multiples of a power of two q, and every partial sum is below 2^53 q, then float64 holds each of
them without rounding: the order, the blocks and the threads no longer matter. So each number is rounded to a multiple
of such a q first. For 437,513 numbers below 1, q is 2^-33: the rounding of each is at most 2^-34, less than float32
loses in a single addition at that size. (Demmel and Nguyen, Fast Reproducible Floating-Point Summation, 2013.)
"""

import math
from dataclasses import dataclass

from torch import Tensor


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
