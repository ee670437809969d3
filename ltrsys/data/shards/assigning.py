"""Giving the images of a source to the splits that are made here."""

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.listed import Listed
from ltrsys.data.shards.manifest import splits_of
from ltrsys.data.shards.splitting import TEST, TRAIN, VAL, groups_by, make_splits, position
from ltrsys.data.sources.source import Source
from ltrsys.data.validation.duplicates import Duplicates, joined
from ltrsys.data.validation.staging import Staged
from ltrsys.errors import UsageError

log = logging.getLogger("ltrsys")


def groups_of(source: Source, options: BuildOptions) -> NDArray[np.object_]:
    """Return the group of each image of a source, in the order of its splits; None where it is in none.

    Raises:
        UsageError: For options that the source does not fit: called before all work.
    """
    shares = {"val": options.val, "test": options.test}
    made = [name for name, share in shares.items() if share > 0]
    for name in made:
        if name in source.splits:
            raise UsageError(f"--{name} {shares[name]:g}: {source.kind} has a {name} split already.")
    parts = {name: np.full(len(items), None, dtype=object) for name, items in source.splits.items()}
    if options.group_by is not None:
        if not made:
            raise UsageError("--group-by is for splits that are made here: give --val 0.1 or --test 0.1 too.")
        parts["train"] = groups_by(source.splits["train"], options.group_by)
    return np.concatenate([*parts.values()])


def with_splits(listed: Listed, earlier: Staged, options: BuildOptions, found: Duplicates | None) -> Listed:
    """Give training images to the splits that are made here.

    Args:
        listed: All images.
        earlier: Those of an earlier build, which keep their splits.
        options: The shares, and what is not parted.
        found: The duplicates among `listed`, if they were looked for.
    """
    shares = options.shares
    if not (shares.val or shares.test):
        return listed
    train = np.flatnonzero(listed.splits == TRAIN)
    own = listed.take(train)
    before = dict(zip(earlier.items.tolist(), splits_of(earlier).tolist(), strict=True))
    fixed = np.array([before.get(item, -1) for item in own.staged.items], dtype=np.int64)
    had = set(before.values())
    if any(share and split not in had for split, share in ((VAL, shares.val), (TEST, shares.test))):
        fixed[fixed == TRAIN] = -1  # a split that is new takes its images from there
    units, positions = _units(own, options)
    if found is not None and options.duplicates == "together":
        units, positions = joined(units, positions, found.cluster[train])
    splits = listed.splits.copy()
    splits[train] = make_splits(units, positions, own.labels, shares, fixed)
    return replace(listed, splits=splits)


def _units(listed: Listed, options: BuildOptions) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the number of what an image is not parted from, [images], and the positions of these, [units]."""
    keys = [
        b"image " + bytes(pixels) if group is None else b"group " + str(group).encode(errors="surrogateescape")
        for group, pixels in zip(listed.groups, listed.staged.pixels, strict=True)
    ]
    if options.group_by is not None and (alone := sum(group is None for group in listed.groups)):
        log.warning("%d of %d images are in no group of --group-by: each goes its own way.", alone, len(listed))
    number: dict[bytes, int] = {}
    units = np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)
    positions = np.array([position(key, options.seed) for key in number])
    return units, positions
