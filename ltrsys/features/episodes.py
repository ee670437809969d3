"""Episodes on the feature bank: some classes of many images are shown by a few of them, as if there were no more."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltrsys.random import Stream, permutation, uniforms

# B base classes, V of them in the place of novel ones, S support images of each, Q query images


@dataclass(frozen=True)
class Episode:
    """One task: classes to learn from a few images, and images to tell apart from all classes."""

    novel_V: NDArray[np.int64]
    """The classes that stand for novel ones, by their place among the base classes, int64 [V]."""
    support_VS: NDArray[np.int64]
    """Rows of the images that they are learned from, int64 [V, S]."""
    query_Q: NDArray[np.int64]
    """Rows of other images of theirs, then of images of the other base classes, int64 [Q]."""


@dataclass(frozen=True)
class Episodes:
    """All episodes, each a pure function of its number."""

    rows_of_class: list[NDArray[np.int64]]
    """Rows of the images of each base class, int64, more than `shots` of each."""
    num_novel: int
    """V, fewer than there are base classes."""
    shots: int
    """S."""
    queries: int
    """Query images of either kind. Those of novel classes are as many of each, and may be fewer for want of images."""
    seed: int

    def episode(self, number: int) -> Episode:
        """Draw an episode, counted from 0; the images of other base classes are drawn with replacement, by class."""
        num_base = len(self.rows_of_class)
        order = permutation(num_base, seed=self.seed, stream=Stream.EPISODES, major=number, minor=0)
        novel, others = order[: self.num_novel], order[self.num_novel :]
        shuffled = [self._shuffled(int(place), number) for place in novel]
        last = self.shots + max(1, self.queries // self.num_novel)

        random = uniforms(2 * self.queries, seed=self.seed, stream=Stream.EPISODES, major=number, minor=num_base + 1)
        drawn = [self.rows_of_class[place] for place in others[_below(random[: self.queries], len(others))]]
        inside = _below(random[self.queries :], np.array([len(rows) for rows in drawn]))
        of_others = [rows[place] for rows, place in zip(drawn, inside, strict=True)]
        return Episode(
            novel,
            np.stack([rows[: self.shots] for rows in shuffled]),
            np.concatenate([*(rows[self.shots : last] for rows in shuffled), of_others]),
        )

    def _shuffled(self, place: int, number: int) -> NDArray[np.int64]:
        rows = self.rows_of_class[place]
        return rows[permutation(len(rows), seed=self.seed, stream=Stream.EPISODES, major=number, minor=1 + place)]


def _below(random: NDArray[np.float64], bound: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Whole numbers from 0 to below `bound`, from numbers uniform on [0, 1)."""
    return (random * bound).astype(np.int64)
