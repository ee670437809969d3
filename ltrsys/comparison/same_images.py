"""Whether runs are reported on the same images, and bringing their predictions into one order."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.dataset import Split
from ltrsys.data.index.difference import difference
from ltrsys.errors import UsageError
from ltrsys.evaluation.balanced_run import BalancedRun


def common_order(runs: Sequence[BalancedRun]) -> list[NDArray[np.int64]]:
    """Return for each run the rows of its images, [N], in the order in which the first run has them.

    Images are the same if class, checksum and size are; shards that were built from other training images may hold
    them in another order. Where features of a run were made elsewhere, rows are the same that have one place.

    Raises:
        UsageError: Where a run has other classes or other images; says which run, and what differs.
    """
    first = runs[0]
    if not all(run.dataset.has_images for run in runs):
        return _order_of_features(runs)
    ordered, first_keys = _sorted_by_key(_reported(first))
    back = np.argsort(ordered)
    found = [np.arange(len(ordered))]
    for run in runs[1:]:
        _check_classes(first, run)
        rows, keys = _sorted_by_key(_reported(run))
        if not np.array_equal(first_keys, keys):
            raise UsageError(_what_differs(first, run))
        found.append(rows[back])
    return found


def _order_of_features(runs: Sequence[BalancedRun]) -> list[NDArray[np.int64]]:
    """Take the rows as they are: nobody knows of which images they are, but their classes must be the same."""
    first = runs[0]
    for run in runs[1:]:
        _check_classes(first, run)
        if not np.array_equal(first.reported.split.labels, run.reported.split.labels):
            raise UsageError(
                f"{run.run.path}: its rows have other labels than those of {first.run.path}. Features that were made "
                "elsewhere are compared row by row: give them in the same order."
            )
    return [np.arange(len(first.reported.split.labels)) for _ in runs]


def training_differences(runs: Sequence[BalancedRun]) -> list[str]:
    """Say which runs have other data than the first, though the reported images are the same; a sentence each."""
    first = runs[0]
    return [
        f"{run.run.path} has other data than {first.run.path}, though the reported images are the same: "
        f"{difference(first.dataset.record, run.dataset.record)}."
        for run in runs[1:]
        if run.dataset.fingerprint != first.dataset.fingerprint
    ]


def _reported(run: BalancedRun) -> Split:
    return run.dataset.split(run.reported.name)


def _sorted_by_key(split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the samples of a split in the order of their keys, [N], and the keys: class, checksum and size, [3, N]."""
    keys = np.stack([split.label, split.checksum, split.size]).astype(np.int64)
    rows = np.lexsort(keys[::-1])
    return rows, keys[:, rows]


def _check_classes(first: BalancedRun, run: BalancedRun) -> None:
    names = [[record.name for record in one.dataset.record.classes] for one in (first, run)]
    if names[0] != names[1]:
        what = "; ".join(difference(first.dataset.record, run.dataset.record).classes) or "other names"
        raise UsageError(
            f"{run.run.path} has other classes than {first.run.path}, so they cannot be compared: {what}. Build its "
            f"shards with `--classes-from {first.run.path}`."
        )


def _what_differs(first: BalancedRun, run: BalancedRun) -> str:
    """Say how the reported images of a run differ from those of the first."""
    one, other = _reported(first), _reported(run)
    own, theirs = (Counter(map(tuple, _sorted_by_key(split)[1].T.tolist())) for split in (one, other))
    same = (own & theirs).total()
    names = f"the {len(one):,} {one.name} images of {first.run.path} and the {len(other):,} {other.name} images"
    example = next(iter((theirs - own) or (own - theirs)))
    class_name = first.dataset.record.classes[int(example[0])].name
    return (
        f"{run.run.path}: it is reported on other images than {first.run.path}: {names} of this run have {same:,} in "
        f"common; a class that differs is {class_name}. Paired tests need the same images: report both on one split, "
        "or train one of them anew on shards with the split of the other."
    )
