"""Splits made here: which images of a source without val or test become it.

Every image, or every group of images, has a number from 0 to 1 that follows from its pixels, or the group's name, and
the seed: below the share of test it is test, above that and below the share of both it is val. Images that are added
later therefore move no other one. A class that would have none in a split, though it has enough images, gives the one
with the lowest number; a class that has not enough stays in train.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from ltrsys.data.index.records import SplitName
from ltrsys.data.sources.source import Items
from ltrsys.errors import UsageError

log = logging.getLogger("ltrsys")

TRAIN, VAL, TEST = range(3)
NAMES: tuple[SplitName, ...] = ("train", "val", "test")
ENOUGH = 3
"""Images, or groups, of a class that give one of them to each split."""


@dataclass(frozen=True)
class Shares:
    """What is split off from the training images."""

    val: float = 0.0
    test: float = 0.0
    """Parts of all images, from 0 to 1."""

    def check(self) -> None:
        """Raise a UsageError where nothing would be left for training."""
        for name, share in (("val", self.val), ("test", self.test)):
            if not 0 <= share < 1:
                raise UsageError(f"--{name} {share:g}: a share is a number from 0 to below 1, such as 0.1.")
        if self.val + self.test >= 1:
            raise UsageError(
                f"--val {self.val:g} and --test {self.test:g} add to {self.val + self.test:g}: nothing is left to "
                "train on. Give smaller shares."
            )


def groups_by(items: Items, group_by: str) -> NDArray[np.object_]:
    """Return the group of each image, object [len(items)]; None for an image in none.

    Args:
        items: The images.
        group_by: A column of `items.details`, or a regular expression over the path of which the first group, or the
            whole match, names the group.

    Raises:
        UsageError: Where it is neither.
    """
    if group_by in items.details:
        return items.details[group_by]
    if group_by.isidentifier():
        have = ", ".join(sorted(items.details)) or "none"
        raise UsageError(
            f"--group-by {group_by}: the source has no such column (it has: {have}). Give one of these, or a regular "
            "expression over the path, such as '(cam[0-9]+)'."
        )
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise UsageError(f"--group-by {group_by}: not a regular expression ({error}).") from None
    groups = np.full(len(items), None, dtype=object)
    for place, name in enumerate(items.names):
        if match := pattern.search(name):
            groups[place] = match.group(1) if pattern.groups else match.group()
    if not any(group is not None for group in groups):
        raise UsageError(
            f"--group-by {group_by}: no path matches, such as `{items.names[0]}`." if items.names else "no images."
        )
    return groups


def position(key: bytes, seed: int) -> float:
    """Return the number of an image or a group, from 0 to below 1."""
    return int(xxhash.xxh3_64_intdigest(key, seed=seed)) / 2.0**64


def make_splits(
    units: NDArray[np.int64],
    positions: NDArray[np.float64],
    labels: NDArray[np.int64],
    shares: Shares,
    fixed: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the split of each image, int64 [images]: `TRAIN`, `VAL` or `TEST`.

    Args:
        units: What is not taken apart: equal numbers stand on one side, [images].
        positions: Number from 0 to 1 of each unit, [units].
        labels: Class of each image, [images].
        shares: How much goes to val and test.
        fixed: The split that an image has for good, -1 where it has none, [images]; all images of its unit follow it.
    """
    split_of_unit = np.select([positions < shares.test, positions < shares.test + shares.val], [TEST, VAL], TRAIN)
    free = np.ones(len(positions), dtype=bool)
    if fixed is not None:
        held = fixed >= 0
        # of a unit that was taken apart before, the part furthest from training decides
        for split in (TRAIN, VAL, TEST):
            places = units[held & (fixed == split)]
            split_of_unit[places], free[places] = split, False
    wanted = [split for split, share in ((TEST, shares.test), (VAL, shares.val)) if share > 0]
    _fill(units, positions, labels, split_of_unit, free, wanted)
    return split_of_unit[units]


def _fill(
    units: NDArray[np.int64],
    positions: NDArray[np.float64],
    labels: NDArray[np.int64],
    split_of_unit: NDArray[np.int64],
    free: NDArray[np.bool_],
    wanted: Sequence[int],
) -> None:
    """Give every class that has enough units one in each split, by moving units from where it has two or more.

    Classes with fewer are trained on with all that they have.
    """
    pairs = np.unique(np.stack([labels, units], axis=1), axis=0)
    starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    of_class = sorted(np.split(pairs[:, 1], starts[1:]), key=len)  # the rarest first: they have the least choice
    for own in of_class:
        if len(own) < ENOUGH:
            split_of_unit[own[free[own]]] = TRAIN
    for own in of_class:
        if len(own) < ENOUGH:
            continue
        for split in (*wanted, TRAIN):
            if (split_of_unit[own] == split).any():
                continue
            counts = np.bincount(split_of_unit[own], minlength=len(NAMES))
            movable = own[free[own] & (counts[split_of_unit[own]] > 1)]
            if len(movable):
                split_of_unit[movable[np.argmin(positions[movable])]] = split
