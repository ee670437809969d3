"""Rows in bfloat16 and the bounds of what that takes."""

import pytest
import torch

from ltrsys.kernels.gpu.prepared_rows import PADDING, round_scaled_rows
from tests.kernels.gpu.conftest import random

pytestmark = pytest.mark.usefixtures("nan_in_new_tensors")


def expected_scale(length: torch.Tensor, scaling: str, given: torch.Tensor) -> torch.Tensor:
    if scaling == "given":
        return given.expand_as(length)
    if scaling == "unit":
        return 1 / length
    return torch.exp2(-length.log2().floor())


@pytest.mark.parametrize("scaling", ["unit", "power", "given"])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("shape", [(1, 16), (5, 64), (3, 1504)], ids=str)
def test_bounds_hold_and_are_tight(scaling: str, centered: bool, shape: tuple[int, int]) -> None:
    rows = random(*shape)
    center = random(shape[1], seed=1).double() if centered else None
    given = torch.tensor([0.37], dtype=torch.float64)
    scaled = round_scaled_rows(rows, scaling, center, scale=given)
    moved = rows.double() - (center if centered else 0.0)
    length = moved.norm(dim=1)
    torch.testing.assert_close(scaled.length_R, length, rtol=1e-14, atol=0)
    exact = moved * expected_scale(length, scaling, given)[:, None]
    values = scaled.rounded.values_RD
    assert values.dtype == torch.bfloat16
    assert values.shape[1] % PADDING == 0
    assert (values[:, shape[1] :] == 0).all()
    taken = (values[:, : shape[1]].double() - exact).norm(dim=1)
    norm = values.double().norm(dim=1)
    assert (scaled.rounded.residual_R >= taken).all()
    assert (scaled.rounded.residual_R <= taken * 1.001 + 1e-12).all()
    assert (scaled.rounded.norm_R >= norm).all()
    assert (scaled.rounded.norm_R <= norm * 1.001).all()
    # a GPU rounds to nearest, the interpreter cuts
    assert (taken <= exact.norm(dim=1) * 2.0**-7).all()


def test_unit_rows_can_be_shifted() -> None:
    rows = random(5, 48) + 4
    unit = rows.double() / rows.double().norm(dim=1, keepdim=True)
    scaled = round_scaled_rows(rows, "unit", shift_D=unit.mean(dim=0))
    exact = unit - unit.mean(dim=0)
    taken = (scaled.rounded.values_RD[:, :48].double() - exact).norm(dim=1)
    assert (scaled.rounded.residual_R >= taken).all()
    assert (taken <= exact.norm(dim=1) * 2.0**-7).all()
    assert (scaled.rounded.norm_R < 0.5).all()
    torch.testing.assert_close(scaled.length_R, rows.double().norm(dim=1))


def test_a_power_of_two_leaves_rows_that_bfloat16_holds_as_they_are() -> None:
    rows = random(4, 80, dtype=torch.bfloat16).float() * torch.tensor([2.0**-90, 2.0**-9, 1.0, 2.0**90])[:, None]
    scaled = round_scaled_rows(rows, "power")
    assert (scaled.rounded.residual_R == 0).all()
    assert ((scaled.rounded.norm_R >= 1) & (scaled.rounded.norm_R < 2.001)).all()


def test_zero_stays_zero() -> None:
    for scaling in ("unit", "power"):
        scaled = round_scaled_rows(torch.zeros(2, 16), scaling)
        for numbers in (scaled.rounded.values_RD, scaled.rounded.norm_R, scaled.rounded.residual_R, scaled.length_R):
            assert (numbers == 0).all()
