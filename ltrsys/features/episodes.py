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
    """Query images of each class: as many of novel ones as of the others, or either kind would come to be preferred. A
    novel class may have fewer for want of images."""
    seed: int

    def episode(self, number: int) -> Episode:
        """Draw an episode, counted from 0; the query images of the other classes are drawn with replacement."""
        num_base = len(self.rows_of_class)
        order = permutation(num_base, seed=self.seed, stream=Stream.EPISODES, major=number, minor=0)
        novel, others = order[: self.num_novel], order[self.num_novel :]
        shuffled = [self._shuffled(int(place), number) for place in novel]
        asked = [self.rows_of_class[place] for place in np.repeat(others, self.queries)]
        random = uniforms(len(asked), seed=self.seed, stream=Stream.EPISODES, major=number, minor=num_base + 1)
        of_others = [rows[int(u * len(rows))] for rows, u in zip(asked, random, strict=True)]
        return Episode(
            novel,
            np.stack([rows[: self.shots] for rows in shuffled]),
            np.concatenate([*(rows[self.shots : self.shots + self.queries] for rows in shuffled), of_others]),
        )

    def _shuffled(self, place: int, number: int) -> NDArray[np.int64]:
        rows = self.rows_of_class[place]
        return rows[permutation(len(rows), seed=self.seed, stream=Stream.EPISODES, major=number, minor=1 + place)]
