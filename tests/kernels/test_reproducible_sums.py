"""Sums and lengths of rows with the same bits everywhere: what is exact, and what has a fixed order."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrsys.kernels.reproducible_sums import LANES, Quantum, normalized, row_lengths
from tests.kernels.gpu.conftest import random


@settings(deadline=None)
@given(st.floats(1e-30, 1e30), st.integers(1, 10**9), st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_multiples_of_the_quantum_are_what_float64_adds_exactly(largest, num_rows, parts):
    quantum = Quantum.of(largest, num_rows)
    assert math.frexp(quantum.value)[0] == 0.5
    assert Fraction(largest) * num_rows <= Fraction(quantum.value) * 2**53
    values = torch.tensor(parts, dtype=torch.float64) * largest
    for value, rounded in zip(values.tolist(), quantum.round_(values.clone()).tolist(), strict=True):
        assert Fraction(rounded) % Fraction(quantum.value) == 0
        assert abs(Fraction(rounded) - Fraction(value)) * 2 <= Fraction(quantum.value)


@pytest.mark.parametrize("columns", [1, 31, LANES, 3 * LANES + 5])
def test_lengths_are_added_in_the_order_that_is_written_down(columns: int) -> None:
    row = random(1, columns).double()
    sums = [0.0] * LANES
    for column, value in enumerate(row[0].tolist()):
        sums[column % LANES] += value * value
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [sums[place] + sums[place + half] for place in range(half)]
    assert row_lengths(row).item() == sums[0] ** 0.5
    torch.testing.assert_close(row_lengths(row), row.norm(dim=1))


def test_a_row_of_zeros_stays_zero() -> None:
    assert torch.equal(normalized(torch.zeros(2, 3, dtype=torch.float64)), torch.zeros(2, 3, dtype=torch.float64))
