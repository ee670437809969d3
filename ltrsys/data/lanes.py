"""Lanes: the fixed number of read positions among which an epoch's draws are divided.

The merged order of an epoch is cut into as many pieces as there are lanes, one each. Position k of the
global order is place k div L of lane k mod L, so lanes differ in length by one at most.
"""

from math import gcd

import numpy as np
from numpy.typing import NDArray

_BISECTIONS = 60
_GOLDEN_RATIO = 0.6180339887498949


def lane_lengths(draws: int, lanes: int) -> NDArray[np.int64]:
    """Return how many draws each lane holds, int64 [lanes]."""
    return (draws + lanes - 1 - np.arange(lanes)) // lanes


def bounds(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where consecutive parts of these lengths begin and end, int64 [len(lengths) + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)])


def spread(lanes: int) -> NDArray[np.int64]:
    """Return an order of the lanes in which neighbours are far apart, int64 [lanes].

    Consecutive positions of the global order come from consecutive lanes. Where consecutive pieces hold
    classes of similar frequency, they go to lanes in this order, so that any stretch of a batch mixes them.
    """
    near = round(lanes * _GOLDEN_RATIO)
    stride = next(step for step in range(near, near + lanes + 1) if gcd(step, lanes) == 1)
    return np.arange(lanes) * stride % lanes


def cut_interleaved(
    draws: NDArray[np.int64], offsets: NDArray[np.float64], targets: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return how many draws of each stratum stand before places of the merged order, int64 [strata, targets].

    Draw i of the M_s of stratum s stands at (i + u_s) / M_s. A bisection finds, for every target place, the
    progress at which so many draws are done; ties there go to the lower stratum.

    Args:
        draws: M_s, int64 [strata].
        offsets: u_s in [0, 1), float64 [strata].
        targets: Places in the merged order, rising, int64 [targets].
    """

    def done(progress: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.clip(np.ceil(progress * draws[:, None] - offsets[:, None]), 0, draws[:, None]).astype(np.int64)

    below, above = np.zeros(len(targets)), np.full(len(targets), 2.0)
    for _ in range(_BISECTIONS):
        middle = (below + above) / 2
        fits = done(middle).sum(axis=0) <= targets
        below, above = np.where(fits, middle, below), np.where(fits, above, middle)
    cut = done(below)
    jump = done(above) - cut
    earlier = np.cumsum(jump, axis=0) - jump
    return cut + np.clip(targets - cut.sum(axis=0) - earlier, 0, jump)
