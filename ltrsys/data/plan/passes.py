"""Reading a stratum forward: which of its samples are taken, pass after pass, so that every quota is met.

Positions are counted along the tape of a stratum of N samples read round and round: position p is sample
p mod N of pass p div N. A class that is drawn m_j times from n_j images needs m_j/n_j passes. The reader
makes as many as the neediest class needs, and no more:

* every class takes floor(m_j/n_j) whole passes, and m_j mod n_j of its images, evenly thinned, from one more;
* a class that needs all the whole passes finds its rest in a last, partial pass, just long enough for it;
* a class that needs fewer skips passes, evenly spread, and finds its rest in one of the others.

So the images of a class are used evenly (counts differ by one at most), the tape is read in order, and
bytes are skipped only where classes of one stratum differ in m_j/n_j: by a quarter octave, at most.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 22
"""Cells of the passes-by-samples mask that are worked on at once."""


@dataclass(frozen=True)
class Choices:
    """Random whole numbers, uniform over a range far above any count, int64 [classes of the stratum]."""

    thinning: NDArray[np.int64]
    """Where the even thinning of a rest begins."""
    passes: NDArray[np.int64]
    """Which pass a class that skips passes takes its rest from."""


def taken_positions(
    tape: NDArray[np.unsignedinteger],
    counts: NDArray[np.int64],
    quota: NDArray[np.int64],
    choices: Choices,
) -> NDArray[np.int64]:
    """Return the positions that are taken, rising, int64 [sum(quota)].

    Args:
        tape: Class of each sample in reading order, as its number within the stratum; [N].
        counts: Images of each class, all above 0; int64 [K], sum N.
        quota: Times each class is to be drawn; int64 [K].
        choices: The random part.
    """
    whole, rest = np.divmod(quota, counts)
    passes = int(whole.max(initial=0))
    if not rest.any() and (whole == passes).all():
        return np.arange(passes * len(tape))
    occurrence = occurrences(tape, counts)
    pieces = _whole_passes(tape, counts, whole, rest, occurrence, choices)
    last = (whole == passes) & (rest > 0)
    pieces.append(passes * len(tape) + _partial_pass(tape, np.where(last, rest, 0), occurrence, choices))
    return np.concatenate(pieces)


def draws_of_one_class(
    positions: NDArray[np.int64], tape: NDArray[np.unsignedinteger], order: NDArray[np.uint64], size: int
) -> NDArray[np.int64]:
    """Group what is taken into draws of `size` images of one class, as positions on the tape, [draws, size].

    As in the paper's code, a class goes round and round through its images in random order. Those that come once more
    than others come first in it; so no image comes again before all of its class have come.

    Args:
        positions: What is taken; of each class a multiple of `size`.
        tape: Class of each sample, as its number within the stratum; [N].
        order: A random number for each sample of the tape, [N].
        size: Images of a draw.
    """
    times = np.bincount(positions % len(tape), minlength=len(tape))
    images, quota = np.bincount(tape), np.bincount(tape, weights=times).astype(np.int64)
    seldom = times == (quota // images)[tape]
    round_of_class = np.lexsort((order, seldom, tape))
    first = np.repeat(np.cumsum(images) - images, quota)
    turn = np.arange(len(positions)) - np.repeat(np.cumsum(quota) - quota, quota)
    return round_of_class[first + turn % np.repeat(images, quota)].reshape(-1, size)


def occurrences(tape: NDArray[np.unsignedinteger], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many samples of the same class stand before each sample, int64 [N]."""
    by_class = np.argsort(tape, kind="stable")  # a radix sort, since tapes of up to 65,536 classes are uint16
    first = np.cumsum(counts) - counts
    occurrence = np.empty(len(tape), dtype=np.int64)
    occurrence[by_class] = np.arange(len(tape)) - np.repeat(first, counts)
    return occurrence


def _whole_passes(
    tape: NDArray[np.unsignedinteger],
    counts: NDArray[np.int64],
    whole: NDArray[np.int64],
    rest: NDArray[np.int64],
    occurrence: NDArray[np.int64],
    choices: Choices,
) -> list[NDArray[np.int64]]:
    passes = int(whole.max(initial=0))
    if not passes:
        return []
    skips = whole < passes
    taken = np.where(skips, whole + (rest > 0), passes)
    thinned = np.where(skips & (rest > 0), choices.passes % passes, -1)
    kept = (occurrence * rest[tape] + (choices.thinning % counts)[tape]) % counts[tape] < rest[tape]
    pieces = []
    step = max(1, _CHUNK // len(tape))
    for begin in range(0, passes, step):
        numbers = np.arange(begin, min(begin + step, passes))[:, None]
        # Bresenham's rule: `taken` of `passes`, evenly spread, the thinned one always among them
        takes = (numbers - thinned) * taken % passes < taken
        mask = takes[:, tape]
        thin = (numbers == thinned)[:, tape]
        mask &= ~thin | kept
        pieces.append(begin * len(tape) + np.flatnonzero(mask))
    return pieces


def _partial_pass(
    tape: NDArray[np.unsignedinteger],
    rest: NDArray[np.int64],
    occurrence: NDArray[np.int64],
    choices: Choices,
) -> NDArray[np.int64]:
    """Take `rest` of each class from the shortest beginning of the tape that holds them, evenly thinned."""
    ends = np.flatnonzero(occurrence == rest[tape] - 1)
    if not len(ends):
        return ends
    window = tape[: ends[-1] + 1]
    held = np.maximum(np.bincount(window, minlength=len(rest)), 1)
    begin = (choices.thinning % held)[window]
    return np.flatnonzero((occurrence[: len(window)] * rest[window] + begin) % held[window] < rest[window])
