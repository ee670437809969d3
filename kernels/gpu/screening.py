r"""Which classes can be the best of a row: products of bfloat16 on tensor cores, whose error is bounded.

N samples, C classes, P padded features, T gains of each class, G groups of classes, K places for candidates.

The score of class j for sample n is gain_tj * x_n.u_j - offset_j, u_j being the direction of the class. A product S_nj
of rounded rows is within E_n of x_n.u_j (`kernels/rounding.py`), and so the score lies between

    lower = gain_tj * (S_nj - E_n) - offset_j    and    upper = gain_tj * (S_nj + E_n) - offset_j.

A class whose upper bound is below the k-th greatest lower bound of its row is not among the row's k best. The first
pass finds these lower bounds, the second multiplies again and marks the classes that reach them: storing the products
in between would cost more than making them twice. The marks, a bit a class, are then turned into lists.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import triton
from torch import Tensor
from triton import language as tl

from ltrsys.kernels.gpu.prepared_rows import ScaledRows
from ltrsys.kernels.gpu.tiles import BAND, Tile, is_interpreted, num_programs, tile_of_program, tiles_of
from ltrsys.kernels.gpu.variants import Variant, pointer, scalar
from ltrsys.kernels.rounding import product_error

Keep = Literal["bounds by gain", "bounds by group", "marks"]
"""What is kept of a tile of products: the greatest lower bound of a row, for each gain or in each group of classes, or
the classes that reach the threshold, a bit each."""

ROWS_OF_A_BLOCK = 8192
"""Rows at a time: what is held beyond the result is a few hundred bytes a row, and one copy of the rows in bfloat16."""

GROUP = 16
"""Neighbours of which the first pass of a search keeps the greatest lower bound, and whose marks in the second pass are
bits of one number."""

LISTED_GROUPS = 128
"""Groups whose marks a program turns into a list at a time."""

SCORE_SLACK = 2.0**-21
"""Relative error, with room to spare, of a bound: gain and offset are rounded to float32, and so are the difference
from E, the product with the gain and the difference from the offset, 2^-24 each."""

FLUSHED = 2.0**-120
"""A gain or bound below 2^-126 may be flushed to 0."""


@dataclass(frozen=True)
class Directions:
    """The classes: vectors of length 2 at most, with gains and offsets scaled so that no gain exceeds 1."""

    rows: ScaledRows
    gain_TC: Tensor
    """float32 [T, C], not negative."""
    offset_C: Tensor | None = None
    """float32 [C], at most half the square of the gain."""


@dataclass(frozen=True)
class Candidates:
    """The classes that can be the best of each row, in ascending order."""

    classes_NK: Tensor
    """int32 [N, K], the first `count_N` of each row."""
    count_N: Tensor
    """int32 [N]; more than K where there was no place for all."""


def can_screen(rows_RD: Tensor) -> bool:
    """Say whether rows can be screened: float32 ones, whose squares float64 can hold."""
    return rows_RD.dtype == torch.float32 and rows_RD.shape[1] > 0


def undecided_rows(found: Candidates, *, at_least: int) -> Tensor:
    """Return the rows that had more candidates than places, int64.

    A row always has the candidates that reach its threshold; one that had fewer would be scored in full just so.
    """
    return ((found.count_N > found.classes_NK.shape[1]) | (found.count_N < at_least)).nonzero()[:, 0]


def bounds_of(features: ScaledRows, directions: Directions) -> Tensor:
    """Return E_n, float32 [N]: the bound of the product, and room for the rounding of the scores made from it."""
    error_N = product_error(features.rounded, directions.rows.rounded)
    largest_product_N = features.rounded.norm_R * directions.rows.rounded.norm_R.max()
    largest_offset = 0.0 if directions.offset_C is None else 1.0
    return error_N + SCORE_SLACK * (error_N + largest_product_N + largest_offset)


def greatest_lower_bounds(features: ScaledRows, directions: Directions, error_N: Tensor) -> Tensor:
    """Return the greatest lower bound over the classes of each row, float32 [T, N]; no offsets."""
    shape = (directions.gain_TC.shape[0], len(error_N))
    bound_TN = torch.full(shape, -torch.inf, dtype=torch.float32, device=error_N.device)
    _multiply("bounds by gain", features, directions, error_N, bound_TN)
    return bound_TN - FLUSHED


def kth_lower_bounds(features: ScaledRows, directions: Directions, error_N: Tensor, k: int) -> Tensor:
    """Return a bound that at least k classes of each row reach, float32 [1, N], for one gain a class.

    It is the k-th greatest of the greatest lower bounds of groups of classes: k groups, k different classes. C must be
    at least k * GROUP.
    """
    shape = (len(error_N), _num_groups(directions, tiles_of(error_N.device).screen))
    bound_NG = torch.empty(shape, dtype=torch.float32, device=error_N.device)
    _multiply("bounds by group", features, directions, error_N, bound_NG)
    return bound_NG.topk(k, dim=1).values[:, -1][None] - FLUSHED


def candidates(
    features: ScaledRows, directions: Directions, error_N: Tensor, threshold_TN: Tensor, capacity: int
) -> Candidates:
    """List the classes of each row whose upper bound reaches the threshold for any gain."""
    num_rows, num_groups = len(error_N), _num_groups(directions, tiles_of(error_N.device).screen)
    marks_NG = torch.empty(num_rows, num_groups, dtype=torch.int32, device=error_N.device)
    _multiply("marks", features, directions, error_N, marks_NG, threshold_TN)
    listed = Candidates(
        torch.empty(num_rows, capacity, dtype=torch.int32, device=error_N.device),
        torch.empty(num_rows, dtype=torch.int32, device=error_N.device),
    )
    _list_candidates[(num_rows,)](
        marks_NG,
        listed.classes_NK,
        listed.count_N,
        num_groups,
        capacity,
        GROUP=GROUP,
        GROUPS=LISTED_GROUPS,
        num_warps=4,
    )
    return listed


def _multiply(
    keep: Keep,
    features: ScaledRows,
    directions: Directions,
    error_N: Tensor,
    out: Tensor,
    threshold_TN: Tensor | None = None,
) -> None:
    """Multiply the rows, and write to `out` what is to be kept of the products."""
    num_rows, num_classes = len(features.length_R), len(directions.rows.length_R)
    tile = tiles_of(error_N.device).screen
    offset_C = directions.offset_C
    _screen[(num_programs(num_rows, num_classes, tile),)](
        features.rounded.values_RD,
        directions.rows.rounded.values_RD,
        error_N,
        directions.gain_TC,
        directions.gain_TC if offset_C is None else offset_C,
        error_N if threshold_TN is None else threshold_TN,
        out,
        num_rows,
        num_classes,
        features.rounded.values_RD.shape[1],
        directions.gain_TC.shape[0],
        _num_groups(directions, tile),
        KEEP=keep,
        HAS_OFFSET=offset_C is not None,
        **_constants(tile),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


@triton.jit
def _tile_product(
    features_ptr: tl.tensor,
    directions_ptr: tl.tensor,
    rows: tl.tensor,
    classes: tl.tensor,
    num_rows: tl.tensor,
    num_classes: tl.tensor,
    padded: tl.tensor,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    INNER: tl.constexpr,
    WIDEN: tl.constexpr,
) -> tl.tensor:
    """Multiply a tile. Rows and classes past the end repeat the last: their products are not used."""
    inner = tl.arange(0, INNER)
    row_offsets = tl.minimum(rows, num_rows - 1).to(tl.int64) * padded
    class_offsets = tl.minimum(classes, num_classes - 1).to(tl.int64) * padded
    feature_ptrs = features_ptr + row_offsets[:, None] + inner[None, :]
    direction_ptrs = directions_ptr + class_offsets[None, :] + inner[:, None]
    product = tl.zeros((ROWS, CLASSES), tl.float32)
    for _ in range(0, padded, INNER):
        features = tl.load(feature_ptrs)
        directions = tl.load(direction_ptrs)
        if WIDEN:  # the interpreter would multiply the bits of bfloat16 as integers
            features = features.to(tl.float32)
            directions = directions.to(tl.float32)
        product = tl.dot(features, directions, product)
        feature_ptrs += INNER
        direction_ptrs += INNER
    return product


@triton.jit(do_not_specialize=["num_rows", "num_classes", "num_gains", "num_groups"])
def _screen(
    features_ptr: tl.tensor,
    directions_ptr: tl.tensor,
    error_ptr: tl.tensor,
    gain_ptr: tl.tensor,
    offset_ptr: tl.tensor,
    threshold_ptr: tl.tensor,
    out_ptr: tl.tensor,
    num_rows: tl.tensor,
    num_classes: tl.tensor,
    padded: tl.tensor,
    num_gains: tl.tensor,
    num_groups: tl.tensor,
    KEEP: tl.constexpr,
    HAS_OFFSET: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    INNER: tl.constexpr,
    BAND: tl.constexpr,
    WIDEN: tl.constexpr,
) -> None:
    row_tile, class_tile = tile_of_program(num_rows, num_classes, ROWS, CLASSES, BAND)
    rows = row_tile * ROWS + tl.arange(0, ROWS)
    classes = class_tile * CLASSES + tl.arange(0, CLASSES)
    product = _tile_product(
        features_ptr, directions_ptr, rows, classes, num_rows, num_classes, padded, ROWS, CLASSES, INNER, WIDEN
    )
    error = tl.load(error_ptr + rows, mask=rows < num_rows, other=0.0)
    if KEEP == "bounds by gain":
        lower = tl.where((classes < num_classes)[None, :], product - error[:, None], float("-inf"))
        for gain_row in range(num_gains):
            gain = tl.load(gain_ptr + gain_row * num_classes + classes, mask=classes < num_classes, other=1.0)
            best = tl.max(lower * gain[None, :], 1)
            # the greatest of a row's tiles, whichever comes first
            tl.atomic_max(out_ptr + gain_row * num_rows + rows, best, mask=rows < num_rows, sem="relaxed")
    elif KEEP == "bounds by group":
        gain = tl.load(gain_ptr + classes, mask=classes < num_classes, other=1.0)
        lower = (product - error[:, None]) * gain[None, :]
        if HAS_OFFSET:
            lower -= tl.load(offset_ptr + classes, mask=classes < num_classes, other=0.0)[None, :]
        lower = tl.where((classes < num_classes)[None, :], lower, float("-inf"))
        best = tl.max(tl.reshape(lower, (ROWS, CLASSES // GROUP, GROUP)), 2)
        groups = class_tile * (CLASSES // GROUP) + tl.arange(0, CLASSES // GROUP)
        places = rows.to(tl.int64)[:, None] * num_groups + groups[None, :]
        tl.store(out_ptr + places, best, mask=(rows < num_rows)[:, None])
    else:
        upper = product + error[:, None]
        # a quarter of a tile at a time, so that products and comparisons fit the registers
        left, right = _halves(upper, ROWS, CLASSES)
        first, second = _halves(left, ROWS, CLASSES // 2)
        third, fourth = _halves(right, ROWS, CLASSES // 2)
        QUARTER: tl.constexpr = CLASSES // 4
        for quarter in tl.static_range(4):
            quarter_classes = class_tile * CLASSES + quarter * QUARTER + tl.arange(0, QUARTER)
            above = _above_threshold(
                first if quarter == 0 else second if quarter == 1 else third if quarter == 2 else fourth,
                gain_ptr,
                offset_ptr,
                threshold_ptr,
                rows,
                quarter_classes,
                num_rows,
                num_classes,
                num_gains,
                ROWS,
                QUARTER,
                HAS_OFFSET,
            )
            reaches = (above >= 0.0) & (quarter_classes < num_classes)[None, :]
            bits = tl.where(reaches, 1 << (quarter_classes % GROUP)[None, :], 0)
            marks = tl.sum(tl.reshape(bits, (ROWS, QUARTER // GROUP, GROUP)), 2)
            groups = (class_tile * 4 + quarter) * (QUARTER // GROUP) + tl.arange(0, QUARTER // GROUP)
            places = rows.to(tl.int64)[:, None] * num_groups + groups[None, :]
            tl.store(out_ptr + places, marks, mask=(rows < num_rows)[:, None])


@triton.jit
def _halves(tile: tl.tensor, ROWS: tl.constexpr, COLUMNS: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """Return the left and the right half of a tile."""
    return tl.split(tl.permute(tl.reshape(tile, (ROWS, 2, COLUMNS // 2)), (0, 2, 1)))


@triton.jit
def _above_threshold(
    upper: tl.tensor,
    gain_ptr: tl.tensor,
    offset_ptr: tl.tensor,
    threshold_ptr: tl.tensor,
    rows: tl.tensor,
    classes: tl.tensor,
    num_rows: tl.tensor,
    num_classes: tl.tensor,
    num_gains: tl.tensor,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    HAS_OFFSET: tl.constexpr,
) -> tl.tensor:
    """Say by how much the upper bounds surpass the threshold where they do so most, over the gains."""
    above = tl.full((ROWS, CLASSES), float("-inf"), tl.float32)
    for gain_row in range(num_gains):
        gain = tl.load(gain_ptr + gain_row * num_classes + classes, mask=classes < num_classes, other=0.0)
        threshold = tl.load(threshold_ptr + gain_row * num_rows + rows, mask=rows < num_rows, other=0.0)
        score = upper * gain[None, :]
        if HAS_OFFSET:
            score -= tl.load(offset_ptr + classes, mask=classes < num_classes, other=0.0)[None, :]
        above = tl.maximum(above, score - threshold[:, None])
    return above


@triton.jit(do_not_specialize=["num_groups", "capacity"])
def _list_candidates(
    marks_ptr: tl.tensor,
    classes_ptr: tl.tensor,
    count_ptr: tl.tensor,
    num_groups: tl.tensor,
    capacity: tl.tensor,
    GROUP: tl.constexpr,
    GROUPS: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    count = tl.full((), 0, tl.int32)
    for first in range(0, num_groups, GROUPS):
        group = first + tl.arange(0, GROUPS)
        marks = tl.load(marks_ptr + row * num_groups + group, mask=group < num_groups, other=0)
        marked = tl.reshape((marks[:, None] >> tl.arange(0, GROUP)[None, :]) & 1, (GROUPS * GROUP,))
        place = count + tl.cumsum(marked, 0) - marked
        class_id = first * GROUP + tl.arange(0, GROUPS * GROUP)
        tl.store(classes_ptr + row * capacity + place, class_id, mask=(marked > 0) & (place < capacity))
        count += tl.sum(marked, 0)
    tl.store(count_ptr + row, count)


def _num_groups(directions: Directions, tile: Tile) -> int:
    """Count groups, to the end of the last tile."""
    return triton.cdiv(len(directions.rows.length_R), tile.columns) * (tile.columns // GROUP)


def _constants(tile: Tile) -> dict[str, int | bool]:
    sizes = {"ROWS": tile.rows, "CLASSES": tile.columns, "INNER": tile.inner}
    return {**sizes, "GROUP": GROUP, "BAND": BAND, "WIDEN": is_interpreted}


def variants(tile: Tile) -> list[Variant]:
    """Return every way in which the kernels are compiled for a generation."""
    arguments = {"features_ptr": pointer("bf16"), "directions_ptr": pointer("bf16")}
    arguments |= {name: pointer("fp32") for name in ("error_ptr", "gain_ptr", "offset_ptr", "threshold_ptr")}
    arguments |= {name: scalar("i32") for name in ("num_rows", "num_classes", "num_gains", "num_groups")}
    arguments |= {"padded": scalar("i32", divisible=True)}
    made = []
    for name, keep, dtype, has_offset in (
        ("greatest_lower_bounds", "bounds by gain", "fp32", False),
        ("group_lower_bounds", "bounds by group", "fp32", False),
        ("mark_candidates", "marks", "i32", False),
        ("group_lower_bounds, offsets", "bounds by group", "fp32", True),
        ("mark_candidates, offsets", "marks", "i32", True),
    ):
        constants: dict[str, Any] = {"KEEP": keep, "HAS_OFFSET": has_offset, **_constants(tile)}
        out = {"out_ptr": pointer(dtype)}
        made.append(Variant(name, _screen, arguments | out, constants, tile.warps, tile.stages))
    arguments = {"marks_ptr": pointer("i32"), "classes_ptr": pointer("i32"), "count_ptr": pointer("i32")}
    arguments |= {"num_groups": scalar("i32"), "capacity": scalar("i32")}
    constants = {"GROUP": GROUP, "GROUPS": LISTED_GROUPS}
    made.append(Variant("list_candidates", _list_candidates, arguments, constants, warps=4, stages=3))
    return made
