"""Reading a stratum forward: which of its samples are taken, pass after pass, so that every quota is met.

Positions are counted along the tape of a stratum of N samples read round and round: position p is sample p mod N of
pass p div N. To draw class c m_c times from its n_c images takes m_c / n_c passes: w_c = floor(m_c / n_c) whole ones,
and the remainder r_c = m_c mod n_c of its images from one more. P, the largest w_c, is the number of whole passes that
are made:

* A class with w_c = P takes part in all of them. It finds its remainder in a last, partial pass, which is just long
  enough to hold the remainders of these classes.
* A class with w_c < P takes part in k_c of them: w_c, and one more where it has a remainder. These are evenly spread:
  pass p is one where ((p - a_c) k_c) mod P < k_c. In pass a_c, which is random, it finds its remainder.

A remainder is evenly thinned from the images of its class. So these are used evenly (counts differ by one at most), the
tape is read in order, and bytes are skipped only where classes of one stratum differ in m_c / n_c: by a quarter octave,
at most.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MASK_CELLS = 1 << 22
"""Size of the part of the mask [passes, N] that is worked on at once."""

_NO_PASS = -1
"""Remainder pass of a class that has none among the whole passes."""


@dataclass(frozen=True)
class Choices:
    """Random whole numbers, uniform over a range far above any count, int64 [classes of the stratum]."""

    thinning: NDArray[np.int64]
    """Where the even thinning of a remainder begins."""
    passes: NDArray[np.int64]
    """a_c: which pass a class that skips passes takes its remainder from."""


def taken_positions(
    tape: NDArray[np.unsignedinteger],
    counts: NDArray[np.int64],
    quota: NDArray[np.int64],
    choices: Choices,
) -> NDArray[np.int64]:
    """Return the positions that are taken, rising, int64 [sum(quota)].

    Args:
        tape: Class of each sample in reading order, as its number within the stratum; [N].
        counts: n_c, images of each class, all above 0; int64 [K], sum N.
        quota: m_c, times each class is to be drawn; int64 [K].
        choices: The random part.
    """
    whole, remainder = np.divmod(quota, counts)
    num_passes = int(whole.max(initial=0))
    if not remainder.any() and (whole == num_passes).all():
        return np.arange(num_passes * len(tape))
    occurrence = occurrences(tape, counts)
    positions = _whole_passes(tape, counts, whole, remainder, occurrence, choices)
    remainder_of_last_pass = np.where(whole == num_passes, remainder, 0)
    positions.append(num_passes * len(tape) + _partial_pass(tape, remainder_of_last_pass, occurrence, choices))
    return np.concatenate(positions)


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
    counts, quota = np.bincount(tape), np.bincount(tape, weights=times).astype(np.int64)
    comes_less = times == (quota // counts)[tape]
    by_class_in_turn = np.lexsort((order, comes_less, tape))
    first_of_class = np.repeat(np.cumsum(counts) - counts, quota)
    turn = np.arange(len(positions)) - np.repeat(np.cumsum(quota) - quota, quota)
    return by_class_in_turn[first_of_class + turn % np.repeat(counts, quota)].reshape(-1, size)


def occurrences(tape: NDArray[np.unsignedinteger], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many samples of the same class stand before each sample, int64 [N]."""
    by_class = np.argsort(tape, kind="stable")  # a radix sort, since tapes of up to 65,536 classes are uint16
    first = np.cumsum(counts) - counts
    occurrence = np.empty(len(tape), dtype=np.int64)
    occurrence[by_class] = np.arange(len(tape)) - np.repeat(first, counts)
    return occurrence


def evenly_spaced(
    index: NDArray[np.int64],
    chosen: NDArray[np.int64],
    total: NDArray[np.int64] | int,
    phase: NDArray[np.int64] | int = 0,
) -> NDArray[np.bool_]:
    """Return whether each index is one of `chosen` in `total`, as evenly spaced as whole numbers can be.

    It is where (index * chosen + phase) mod total < chosen: Bresenham's rule. Without a phase, index 0 always is one.
    """
    return (index * chosen + phase) % total < chosen


def _whole_passes(
    tape: NDArray[np.unsignedinteger],
    counts: NDArray[np.int64],
    whole: NDArray[np.int64],
    remainder: NDArray[np.int64],
    occurrence: NDArray[np.int64],
    choices: Choices,
) -> list[NDArray[np.int64]]:
    """Return the positions that are taken in the P whole passes, in rising pieces."""
    num_passes = int(whole.max(initial=0))
    if not num_passes:
        return []
    has_remainder_pass = (whole < num_passes) & (remainder > 0)
    passes_of_class = whole + has_remainder_pass  # k_c
    remainder_pass = np.where(has_remainder_pass, choices.passes % num_passes, _NO_PASS)  # a_c
    in_remainder = evenly_spaced(occurrence, remainder[tape], counts[tape], (choices.thinning % counts)[tape])
    pieces = []
    passes_at_once = max(1, _MASK_CELLS // len(tape))
    for begin in range(0, num_passes, passes_at_once):
        numbers = np.arange(begin, min(begin + passes_at_once, num_passes))[:, None]
        participates = evenly_spaced(numbers - remainder_pass, passes_of_class, num_passes)  # [passes, K]
        mask = participates[:, tape]  # [passes, N]
        mask &= (numbers != remainder_pass)[:, tape] | in_remainder
        pieces.append(begin * len(tape) + np.flatnonzero(mask))
    return pieces


def _partial_pass(
    tape: NDArray[np.unsignedinteger],
    remainder: NDArray[np.int64],
    occurrence: NDArray[np.int64],
    choices: Choices,
) -> NDArray[np.int64]:
    """Take `remainder` of each class from the shortest beginning of the tape that holds them, evenly thinned."""
    ends = np.flatnonzero(occurrence == remainder[tape] - 1)
    if not len(ends):
        return ends
    window = tape[: ends[-1] + 1]
    held = np.maximum(np.bincount(window, minlength=len(remainder)), 1)
    phase = (choices.thinning % held)[window]
    return np.flatnonzero(evenly_spaced(occurrence[: len(window)], remainder[window], held[window], phase))
