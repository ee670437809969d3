"""Counter-based random numbers: any of them by its address, none of them by replaying others.

Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) maps a key and a counter to
random words. NumPy keeps the words of its bit generators stable between releases, unlike what its
`Generator` makes of them; so only the raw words are used here.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

WORDS_PER_COUNTER = 4
"""64-bit words that Philox 4x64 gives for one value of its counter."""


_WORTH_SKIPPING = 64
"""Addresses further apart than this are drawn separately: starting Philox anew costs as much as passing these."""


class Stream(IntEnum):
    """What the numbers are for; two purposes never share a word."""

    LAYOUT = 1
    QUOTAS = 2
    PASSES = 3
    MERGE = 4
    ORDER = 5
    AUGMENTATION = 6
    LONG_TAIL = 7
    CLASSIFIER = 8
    GLYPHS = 9
    REPLACEMENT = 10
    DRAWS = 11
    BEGIN = 12
    MIXUP_PARTNERS = 13
    MIXUP_SHARES = 14
    EPISODES = 15
    WEIGHT_GENERATOR = 16
    EXPORT = 17
    BOOTSTRAP = 20
    SIGN_FLIPS = 21
    CALIBRATION = 22
    EXAMPLES = 30
    POLICY = 40
    ERASING = 41
    BLUR = 42
    CUTMIX = 43


def words(
    count: int, *, seed: int, stream: Stream, major: int = 0, minor: int = 0, first: int = 0
) -> NDArray[np.uint64]:
    """Return `count` 64-bit words, starting at word `first` of the sequence (seed, stream, major, minor).

    Args:
        count: How many words.
        seed: Any integer from 0 to 2**64 - 1.
        stream: The purpose.
        major: The first part of the address inside the stream, such as the epoch.
        minor: The second part, such as the stratum.
        first: A multiple of `WORDS_PER_COUNTER`.
    """
    if first % WORDS_PER_COUNTER:
        raise ValueError(f"first={first} is not a multiple of {WORDS_PER_COUNTER}")
    counter = np.array([first // WORDS_PER_COUNTER, minor, major, 0], dtype=np.uint64)
    key = np.array([seed, int(stream)], dtype=np.uint64)
    return np.random.Philox(counter=counter, key=key).random_raw(count)


def uniforms(
    count: int, *, seed: int, stream: Stream, major: int = 0, minor: int = 0, first: int = 0
) -> NDArray[np.float64]:
    """Return `count` numbers, float64, uniform on [0, 1) in steps of 2**-53; addressed as `words` are."""
    return _uniform(words(count, seed=seed, stream=stream, major=major, minor=minor, first=first))


def words_at(
    places: NDArray[np.int64], each: int = 1, *, seed: int, stream: Stream, major: int = 0, minor: int = 0
) -> NDArray[np.uint64]:
    """Return the words of each place, [B, each]: words place·each to place·each + each - 1 of the sequence.

    Args:
        places: Any order and number of them, [B], from 0 on.
        each: How many words belong to a place.
        seed: As for `words`, and what follows likewise.
        stream: The purpose.
        major: The first part of the address.
        minor: The second part.
    """
    wanted, back = np.unique(places, return_inverse=True)
    rows = []
    for run in np.split(wanted, np.flatnonzero(np.diff(wanted) > _WORTH_SKIPPING) + 1):
        begin, end = int(run[0]) * each, (int(run[-1]) + 1) * each
        first = begin // WORDS_PER_COUNTER * WORDS_PER_COUNTER
        drawn = words(end - first, seed=seed, stream=stream, major=major, minor=minor, first=first)
        rows.append(drawn[begin - first :].reshape(-1, each)[run - run[0]])
    return np.concatenate(rows)[back]


def uniforms_at(
    places: NDArray[np.int64], each: int = 1, *, seed: int, stream: Stream, major: int = 0, minor: int = 0
) -> NDArray[np.float64]:
    """Return numbers of each place, [B, each], float64, uniform on [0, 1); addressed as `words_at` are."""
    return _uniform(words_at(places, each, seed=seed, stream=stream, major=major, minor=minor))


def permutation(size: int, *, seed: int, stream: Stream, major: int = 0, minor: int = 0) -> NDArray[np.int64]:
    """Return a uniformly random order of 0..size-1, int64, by sorting one random word each."""
    return np.argsort(words(size, seed=seed, stream=stream, major=major, minor=minor), kind="stable")


def _uniform(raw: NDArray[np.uint64]) -> NDArray[np.float64]:
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
