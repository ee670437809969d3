"""RandAugment and TrivialAugment: which operations an image gets, and how strong.

The fourteen operations and their ranges are those of torchvision's `RandAugment` and `TrivialAugmentWide`
(Cubuk et al., 2020, section 3; Müller and Hutter, 2021, table 1). What each does is decided here, as a few numbers;
`ltrsys.data.loading.operations` applies it.

B images, K operations one after the other, S their side in pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.config import LEVELS, PolicyConfig
from ltrsys.random import Stream, uniforms_at

WORDS_PER_OPERATION = 4
"""Random words of an operation at a position: which it is, how strong, in which direction; one spare."""
PARAMETERS = 6

_DIGITS = 6
"""Decimals that are kept of what comes from sine and cosine, so that a machine's last bit does not show."""


class Kind(IntEnum):
    """What DALI has to do; behind it, the parameters."""

    NOTHING = 0
    WARP = 1
    """Row-wise 2 x 3 matrix from the pixels of the result to those of the image."""
    COLOUR = 2
    """(a, b, c) of a * pixel + b * its grey value + c * the image's mean grey value."""
    SHARPEN = 3
    """The factor."""
    POSTERIZE = 4
    """The bits that are kept, as a number of 0 to 255."""
    SOLARIZE = 5
    """The grey level from which on pixels are inverted."""
    AUTOCONTRAST = 6
    EQUALIZE = 7


@dataclass(frozen=True)
class _Ranges:
    """How far the strongest level goes."""

    shear: float
    translate: float
    """In pixels."""
    degrees: float
    factor: float
    """Of brightness, saturation, contrast and sharpness, from 1."""
    bits: int
    """That are lost."""


Row = tuple[float, ...]
"""A `Kind` and its parameters, as many as it has."""


def operations(
    config: PolicyConfig,
    *,
    seed: int,
    epoch: int,
    positions: NDArray[np.int64],
    mirror: NDArray[np.bool_],
    image_size: int,
) -> NDArray[np.float32]:
    """Draw the operations of the images at B positions.

    Args:
        config: The policy, which is not `none`.
        seed: The experiment's seed.
        epoch: Counted from 0.
        positions: Global positions within the epoch, [B].
        mirror: Which images are mirrored afterwards, [B]. As in torchvision, operations act on what is already
            mirrored.
        image_size: S.

    Returns:
        For each operation its `Kind` and six parameters, float32 [B, K, 7].
    """
    table = operation_table(config.kind == "trivial_augment", image_size)
    drawn = []
    for step in range(config.steps):
        random = uniforms_at(positions, WORDS_PER_OPERATION, seed=seed, stream=Stream.POLICY, major=epoch, minor=step)
        which = (random[:, 0] * len(table)).astype(np.int64)
        level = (random[:, 1] * LEVELS).astype(np.int64) if config.kind == "trivial_augment" else config.magnitude
        drawn.append(table[which, level, (random[:, 2] < 0.5).astype(np.int64), mirror.astype(np.int64)])
    return np.stack(drawn, axis=1)


@cache
def operation_table(wide: bool, image_size: int) -> NDArray[np.float32]:
    """Return what each operation is at each level, by its sign and by whether the image is mirrored afterwards.

    Args:
        wide: Whether the ranges are TrivialAugment's, and not RandAugment's.
        image_size: S.

    Returns:
        Kinds and parameters, float32 [14, 31, 2, 2, 7]; the first sign is +.
    """
    if wide:
        ranges = _Ranges(shear=0.99, translate=32, degrees=135, factor=0.99, bits=6)
    else:
        ranges = _Ranges(shear=0.3, translate=150 / 331 * image_size, degrees=30, factor=0.9, bits=4)
    rows = [[list(_rows(ranges, level, sign, image_size)) for sign in (1, -1)] for level in range(LEVELS)]
    table = [
        [[[_padded(row), _padded(_in_a_mirror(row, image_size))] for row in found] for found in signs] for signs in rows
    ]
    return np.moveaxis(np.array(table, np.float32), 2, 0)


def _padded(row: Row) -> Row:
    return (*row, *[0] * (1 + PARAMETERS - len(row)))


def _in_a_mirror(row: Row, side: int) -> Row:
    """Return what does to an image that is mirrored afterwards what `row` does to one that is mirrored before."""
    if row[0] != Kind.WARP:
        return row
    kind, xx, xy, x, yx, yy, y = row
    return kind, xx, -xy, side * (1 - xx) - x, -yx, yy, y + side * yx


def _rows(ranges: _Ranges, level: int, sign: int, side: int) -> Iterator[Row]:
    """Yield the fourteen operations of a level and sign; some have neither."""
    share = level / (LEVELS - 1)
    shear, pixels = sign * share * ranges.shear, sign * int(share * ranges.translate)
    factor = 1 + sign * share * ranges.factor
    yield (Kind.NOTHING,)
    yield (Kind.WARP, 1, shear, 0, 0, 1, 0)
    yield (Kind.WARP, 1, 0, 0, shear, 1, 0)
    yield (Kind.WARP, 1, 0, -pixels, 0, 1, 0)
    yield (Kind.WARP, 1, 0, 0, 0, 1, -pixels)
    yield _rotation(sign * share * ranges.degrees, side)
    yield (Kind.COLOUR, factor, 0, 0)
    yield (Kind.COLOUR, factor, 1 - factor, 0)
    yield (Kind.COLOUR, factor, 0, 1 - factor)
    yield (Kind.SHARPEN, factor)
    yield (Kind.POSTERIZE, 256 - 2 ** round(share * ranges.bits))
    yield (Kind.SOLARIZE, 255 * (1 - share))
    yield (Kind.AUTOCONTRAST,)
    yield (Kind.EQUALIZE,)


def _rotation(degrees: float, side: int) -> Row:
    """Turn by so many degrees, counter-clockwise, about the centre."""
    cosine, sine = (round(turn(math.radians(degrees)), _DIGITS) for turn in (math.cos, math.sin))
    centre = side / 2
    return (
        Kind.WARP,
        *(cosine, -sine, centre * (1 - cosine + sine)),
        *(sine, cosine, centre * (1 - sine - cosine)),
    )
