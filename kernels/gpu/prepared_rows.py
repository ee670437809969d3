"""Rows as the kernels read them: aligned and padded, or in bfloat16 with what the rounding took from each.

Each kernel is then compiled in one way, and not for every shape and type. The rounding is `kernels/rounding.py`'s, in
one pass over the rows.

R rows, D features, P features padded with zeros to whole tiles.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import triton
from torch import Tensor
from torch.nn import functional
from triton import language as tl

from ltrsys.kernels.gpu.variants import Variant, pointer, scalar
from ltrsys.kernels.rounding import RoundedRows

Scaling = Literal["unit", "power", "given"]

ALIGNED_COLUMNS = 16
"""Columns of aligned rows are padded with zeros to a multiple of this, or another."""

ALIGNED_BYTES = 16
"""Memory begins at a multiple of this: what one thread reads at a time."""

PADDING = 64
"""Columns in bfloat16 are padded to a multiple of this: whole tiles, and rows that begin at multiples of 16 bytes."""

ROWS, BLOCK = 4, 256
"""Rows of a program, and columns that it holds at a time."""

SLACK = 1.0 + 2.0**-20
"""Norms are computed in float64 and stored in float32; this covers their own rounding."""

MOVED_SLACK = 2.0**-51
"""Relative error, with room to spare, of subtracting a center and dividing by a length in float64."""


@dataclass(frozen=True)
class ScaledRows:
    """Rows times a scale each, rounded, and their lengths before."""

    rounded: RoundedRows
    """Values are padded: bfloat16 [R, P]."""
    length_R: Tensor
    """L2 norm of the rows, moved but not scaled, float64 [R]."""


def aligned_rows(rows_RD: Tensor, dtype: torch.dtype, columns: int = ALIGNED_COLUMNS) -> Tensor:
    """Return rows in `dtype`, contiguous and padded with columns of zeros; the same tensor where it is so already."""
    padding = -rows_RD.shape[1] % columns
    rows_RD = functional.pad(rows_RD.to(dtype), (0, padding)) if padding else rows_RD.to(dtype).contiguous()
    return rows_RD if rows_RD.data_ptr() % ALIGNED_BYTES == 0 else rows_RD.clone()


def aligned_center(center_D: Tensor) -> Tensor:
    """Return a center in float64, padded likewise."""
    return aligned_rows(center_D[None], torch.float64)[0]


def round_scaled_rows(
    rows_RD: Tensor,
    scaling: Scaling,
    center_D: Tensor | None = None,
    *,
    scale: Tensor | None = None,
    shift_D: Tensor | None = None,
) -> ScaledRows:
    """Round rows to bfloat16 after moving and scaling them in float64.

    Args:
        rows_RD: float32 [R, D], of `aligned_rows`.
        scaling: `unit` divides each row by its length (zero stays zero); `power` by the power of two that brings its
            length into [1, 2), which changes no digit; `given` multiplies all by `scale`.
        center_D: Subtracted first, float64 [D], of `aligned_center`.
        scale: float64 [1].
        shift_D: Subtracted from unit rows, float64 [D], of length 1 at most.

    Returns:
        The rounded rows with bounds as `kernels/rounding.py` defines them, and the lengths.
    """
    num_rows, num_features = rows_RD.shape
    padded = triton.cdiv(num_features, PADDING) * PADDING
    values_RP = torch.empty(num_rows, padded, dtype=torch.bfloat16, device=rows_RD.device)
    norm_R, residual_R = (torch.empty(num_rows, dtype=torch.float32, device=rows_RD.device) for _ in range(2))
    length_R = torch.empty(num_rows, dtype=torch.float64, device=rows_RD.device)
    if num_rows:
        _round_scaled_rows[(triton.cdiv(num_rows, ROWS),)](
            rows_RD,
            rows_RD if center_D is None else center_D,
            rows_RD if scale is None else scale,
            rows_RD if shift_D is None else shift_D,
            values_RP,
            norm_R,
            residual_R,
            length_R,
            num_rows,
            num_features,
            padded,
            SCALING=scaling,
            CENTERED=center_D is not None,
            SHIFTED=shift_D is not None,
            SLACK=SLACK,
            MOVED_SLACK=MOVED_SLACK,
            ROWS=ROWS,
            BLOCK=BLOCK,
            num_warps=4,
        )
    return ScaledRows(RoundedRows(values_RP, norm_R, residual_R), length_R)


@triton.jit(do_not_specialize=["num_rows"])
def _round_scaled_rows(
    rows_ptr: tl.tensor,
    center_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    shift_ptr: tl.tensor,
    values_ptr: tl.tensor,
    norm_ptr: tl.tensor,
    residual_ptr: tl.tensor,
    length_ptr: tl.tensor,
    num_rows: tl.tensor,
    num_features: tl.tensor,
    padded: tl.tensor,
    SCALING: tl.constexpr,
    CENTERED: tl.constexpr,
    SHIFTED: tl.constexpr,
    SLACK: tl.constexpr,
    MOVED_SLACK: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = rows < num_rows
    columns = tl.arange(0, BLOCK)
    squares = tl.zeros((ROWS, BLOCK), tl.float64)
    center_squares = tl.zeros((BLOCK,), tl.float64)
    row_ptrs = (rows_ptr + rows * num_features)[:, None]
    for first in range(0, num_features, BLOCK):
        column = first + columns
        inside = column < num_features
        value = tl.load(row_ptrs + column[None, :], mask=exists[:, None] & inside[None, :], other=0.0).to(tl.float64)
        if CENTERED:
            center = tl.load(center_ptr + column, mask=inside, other=0.0)
            value -= center[None, :]
            center_squares += center * center
        squares += value * value
    length = tl.sqrt(tl.sum(squares, 1))
    tl.store(length_ptr + rows, length, mask=exists)

    scale = tl.full((ROWS,), 1.0, tl.float64)
    divisor = tl.full((ROWS,), 1.0, tl.float64)
    if SCALING == "unit":
        divisor = tl.where(length > 0.0, length, 1.0)
    if SCALING == "power":
        # 2^-floor(log2 length), made from the bits of the exponent; a length of 0 gives some power of two
        exponent = (length.to(tl.int64, bitcast=True) >> 52) & 0x7FF
        scale = ((2046 - exponent) << 52).to(tl.float64, bitcast=True)
    if SCALING == "given":
        scale *= tl.load(scale_ptr)

    rounded_squares = tl.zeros((ROWS, BLOCK), tl.float64)
    residual_squares = tl.zeros((ROWS, BLOCK), tl.float64)
    value_ptrs = (values_ptr + rows * padded)[:, None]
    for first in range(0, padded, BLOCK):
        column = first + columns
        inside = column < num_features
        value = tl.load(row_ptrs + column[None, :], mask=exists[:, None] & inside[None, :], other=0.0).to(tl.float64)
        if CENTERED:
            value -= tl.load(center_ptr + column, mask=inside, other=0.0)[None, :]
        if SCALING == "unit":
            value = value / divisor[:, None]
        else:
            value = value * scale[:, None]
        if SHIFTED:
            value -= tl.load(shift_ptr + column, mask=inside, other=0.0)[None, :]
        rounded = value.to(tl.float32).to(tl.bfloat16)
        tl.store(value_ptrs + column[None, :], rounded, mask=exists[:, None] & (column < padded)[None, :])
        exact = rounded.to(tl.float32).to(tl.float64)
        rounded_squares += exact * exact
        residual_squares += (exact - value) * (exact - value)
    norm = tl.sqrt(tl.sum(rounded_squares, 1))
    residual = tl.sqrt(tl.sum(residual_squares, 1))
    if CENTERED or SCALING != "power":  # float64 rounded too
        residual += MOVED_SLACK * scale / divisor * (length + 2.0 * tl.sqrt(tl.sum(center_squares, 0)))
    if SHIFTED:
        residual += 2.0 * MOVED_SLACK
    tl.store(norm_ptr + rows, (norm * SLACK).to(tl.float32), mask=exists)
    tl.store(residual_ptr + rows, (residual * SLACK).to(tl.float32), mask=exists)


def variants() -> list[Variant]:
    """Return every way in which the kernel is compiled."""
    made = []
    for scaling, centered, shifted in (
        ("unit", False, False),
        ("unit", False, True),
        ("unit", True, False),
        ("power", False, False),
        ("power", True, False),
        ("given", True, False),
    ):
        arguments = {
            "rows_ptr": pointer("fp32"),
            "center_ptr": pointer("fp64" if centered else "fp32"),
            "scale_ptr": pointer("fp64" if scaling == "given" else "fp32"),
            "shift_ptr": pointer("fp64" if shifted else "fp32"),
            "values_ptr": pointer("bf16"),
            "norm_ptr": pointer("fp32"),
            "residual_ptr": pointer("fp32"),
            "length_ptr": pointer("fp64"),
            "num_rows": scalar("i32"),
            "num_features": scalar("i32", divisible=True),
            "padded": scalar("i32", divisible=True),
        }
        constants: dict[str, Any] = {"SCALING": scaling, "CENTERED": centered, "SHIFTED": shifted}
        constants |= {"SLACK": SLACK, "MOVED_SLACK": MOVED_SLACK, "ROWS": ROWS, "BLOCK": BLOCK}
        name = f"round_rows {scaling}{', centered' * centered}{', shifted' * shifted}"
        made.append(Variant(name, _round_scaled_rows, arguments, constants, warps=4, stages=3))
    return made
