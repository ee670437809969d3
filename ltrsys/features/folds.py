"""Training images held out of a fit, for what cannot be told by those that it was fitted on."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.features.bank import BLOCK_ROWS, BankSplit, give_back
from ltrsys.files import explained
from ltrsys.random import Stream, permutation

FOLDS = 5

_SEED = 0
"""The same folds are made, whatever the run's seed."""


def fold_of_row(train: BankSplit) -> NDArray[np.int64]:
    """Return the fold of each row, 0 to 4, int64 [n]; -1 for the only image of its class.

    The images of each class are in random order and go to one fold after the other, beginning where those of the last
    class have ended; so folds are of one size, and each class is in every training part.
    """
    shuffled = permutation(len(train), seed=_SEED, stream=Stream.CALIBRATION, major=1)
    by_class = shuffled[np.argsort(train.labels[shuffled], kind="stable")]
    several = by_class[train.class_counts[train.labels[by_class]] > 1]
    fold_N = np.full(len(train), -1)
    fold_N[several] = np.arange(len(several)) % FOLDS
    return fold_N


@contextmanager
def part_of(train: BankSplit, rows_n: NDArray[np.int64], folder: Path) -> Iterator[BankSplit]:
    """Yield a split of some rows, memory-mapped as the bank is, in a file of `folder` that has no name.

    It ends with its process.
    """
    with explained(folder):
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed below)
    with file:
        with explained(folder):
            for first in range(0, len(rows_n), BLOCK_ROWS):
                file.write(np.ascontiguousarray(train.features[rows_n[first : first + BLOCK_ROWS]]).data)
                give_back(train.features)
            file.flush()
        features = np.memmap(file, dtype=np.float32, mode="r", shape=(len(rows_n), train.num_features))
        features.filename = f"/proc/self/fd/{file.fileno()}"  # by which it can be opened again
        yield BankSplit(features, train.labels[rows_n], train.num_classes, train.kind, {train.kind: features})
