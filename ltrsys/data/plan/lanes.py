"""Lanes: the fixed number of parts among which an epoch's draws are divided, whatever the number of ranks.

Every stratum is cut into as many segments as there are lanes, and a lane has one segment of each. Position k of
the global order is place k div L of lane k mod L, so lanes differ in length by one at most. Rank r of W reads the
lanes that are alike modulo W. Which lane has which segment is chosen so that these are neighbours on the disk, for
any W, and so are the parts of ranks that follow one another: a node reads one part of every stratum.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 60
"""Of the interval [0, 2] in which a fraction of the epoch is searched: to 2**-59, less than float64's steps near 1."""


def lane_lengths(draws: int, lanes: int) -> NDArray[np.int64]:
    """Return how many draws each lane holds, int64 [lanes]."""
    return (draws + lanes - 1 - np.arange(lanes)) // lanes


def bounds(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where consecutive parts of these lengths begin and end, int64 [len(lengths) + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)])


def lane_of_segment(lanes: int) -> NDArray[np.int64]:
    """Return which lane has each segment of a stratum, int64 [lanes].

    The number of the segment with its digits reversed, to the base of the prime factors of `lanes`: the lanes that
    are even have the first half, those divisible by 4 the first quarter, and so on.
    """
    order = np.zeros(1, dtype=np.int64)
    for apart, following in pairwise(prefix_products(lanes)):
        order = (order[:, None] + apart * np.arange(following // apart)).reshape(-1)
    return order


def prefix_products(lanes: int) -> list[int]:
    """Return the products of the first 0, 1, 2, ... prime factors of `lanes`, the smallest first: 1 to `lanes`."""
    products = [1]
    while products[-1] < lanes:
        rest = lanes // products[-1]
        products.append(products[-1] * next(factor for factor in range(2, rest + 1) if rest % factor == 0))
    return products


def lanes_modulo_ranks(lanes: int, ranks: int) -> NDArray[np.int64]:
    """Return what the lanes of each rank are modulo the number of ranks, int64 [ranks].

    Ranks count along the segments, so that what the ranks of a node read lies together.

    Args:
        lanes: A multiple of `ranks`.
        ranks: How many there are.
    """
    _, first = np.unique(lane_of_segment(lanes) % ranks, return_index=True)
    return np.argsort(first)


def cut_interleaved(
    draws: NDArray[np.int64], offsets: NDArray[np.float64], targets: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return how many draws of each stratum are among the first so many of the merged order, int64 [strata, targets].

    The strata are merged by fractions of the epoch: draw i of the M_s draws of stratum s stands at (i + u_s) / M_s. So
    done_s(x) = ceil(x M_s - u_s), cut to 0..M_s, draws of stratum s stand before the fraction x. For each target,
    halving finds the largest x with sum_s done_s(x) <= target. The draws that stand exactly at x fill what is missing,
    those of the lower stratum first.

    This takes time in proportion to strata x targets x 60; sorting the fractions would mean up to 10**8 of them.

    Args:
        draws: M_s, int64 [strata].
        offsets: u_s in [0, 1), float64 [strata].
        targets: Lengths of beginnings of the merged order, rising, int64 [targets].
    """

    def done(fraction: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.clip(np.ceil(fraction * draws[:, None] - offsets[:, None]), 0, draws[:, None]).astype(np.int64)

    fits, exceeds = np.zeros(len(targets)), np.full(len(targets), 2.0)
    for _ in range(_HALVINGS):
        middle = (fits + exceeds) / 2
        middle_fits = done(middle).sum(axis=0) <= targets
        fits, exceeds = np.where(middle_fits, middle, fits), np.where(middle_fits, exceeds, middle)
    before = done(fits)
    tied = done(exceeds) - before
    tied_in_lower_strata = np.cumsum(tied, axis=0) - tied
    missing = targets - before.sum(axis=0)
    return before + np.clip(missing - tied_in_lower_strata, 0, tied)
