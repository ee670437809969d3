"""How a matrix product is cut into tiles: one way per generation of GPU."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
from triton import language as tl

from ltrsys.kernels.devices import reason_against


@dataclass(frozen=True)
class Tile:
    """What one block of threads computes: `rows` x `columns` of the result, `inner` of the sum at a time."""

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int
    """Pieces of the sum that are fetched ahead into shared memory."""


class Tiles(NamedTuple):
    """The tiles of one generation."""

    screen: Tile
    """bfloat16 products that screen classes."""
    narrow: Tile
    """Products of bfloat16 or float16 that are results."""
    split: Tile
    """Float32 products, each as three products of TF32."""


# Two blocks of screening fit one multiprocessor, so that one multiplies while the other compares.
TILES = {
    80: Tiles(
        screen=Tile(128, 128, 32, warps=4, stages=4),
        narrow=Tile(128, 128, 32, warps=4, stages=4),
        split=Tile(64, 128, 16, warps=8, stages=4),
    ),
    90: Tiles(
        screen=Tile(128, 128, 64, warps=8, stages=3),
        narrow=Tile(128, 128, 64, warps=8, stages=3),
        split=Tile(128, 64, 32, warps=8, stages=3),
    ),
    100: Tiles(
        screen=Tile(128, 128, 64, warps=8, stages=3),
        narrow=Tile(128, 128, 64, warps=8, stages=3),
        split=Tile(128, 64, 32, warps=8, stages=3),
    ),
}
"""By compute capability, times ten."""

INTERPRETED = Tiles(*[Tile(32, 64, 16, warps=4, stages=1)] * 3)
"""Small, so that few rows make several tiles under Triton's interpreter."""

is_interpreted: bool = triton.knobs.runtime.interpret
"""Whether TRITON_INTERPRET=1 was set when Triton was imported: kernels then run in numpy, on CPU tensors too."""


BAND = 8
"""Tiles below one another that are computed before those to their right."""


def tiles_of(device: torch.device) -> Tiles:
    """Return the tiles for a device: those of the newest generation that is not newer, and no bigger, than it.

    Raises:
        ValueError: For a GPU that the kernels are not for.
    """
    if device.type == "cpu":
        return INTERPRETED
    if (reason := reason_against(device)) is not None:
        raise ValueError(f"there are no tiles of the kernels for {torch.cuda.get_device_name(device)}: {reason}.")
    major, _ = torch.cuda.get_device_capability(device)
    return tiles_of_capability(major)


def tiles_of_capability(major: int) -> Tiles:
    """Return the tiles for a compute capability, by its first number."""
    # 12.x has less shared memory a block than 9.0 and 10.x: 99 KiB, which the tiles of 8.0 fit
    return TILES[{9: 90, 10: 100, 11: 100}.get(major, 80)]


@triton.jit
def tile_of_program(
    num_rows: tl.tensor, num_columns: tl.tensor, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BAND: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Say which tile a program computes.

    Programs go down a band of `BAND` tiles before they go right, so that those that run at one time read few
    different rows of both factors, and these from the L2 cache.
    """
    program = tl.program_id(0)
    row_tiles = tl.cdiv(num_rows, ROWS)
    column_tiles = tl.cdiv(num_columns, COLUMNS)
    band = program // (BAND * column_tiles)
    band_height = tl.minimum(row_tiles - band * BAND, BAND)
    place = program % (BAND * column_tiles)
    return band * BAND + place % band_height, place // band_height


def num_programs(num_rows: int, num_columns: int, tile: Tile) -> int:
    """Count the tiles of a result."""
    return triton.cdiv(num_rows, tile.rows) * triton.cdiv(num_columns, tile.columns)
