"""The index of a sharded dataset: columns and one `dataset.json`.

    OUT/dataset.json
    OUT/<split>/index/{label,shard,offset,size,width,height,checksum}.npy
    OUT/<split>/shards/<split>-000000.tar ...

Sample ids count within a split, in the order of its shards; only the samples of shards that an update appended to a
stratum stand between those of its other shards. A stratum is a range of sample ids. 30 bytes a sample: 100 million
samples open in milliseconds.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.columns import COLUMNS, open_column
from ltrsys.data.index.records import DatasetRecord, SplitName, SplitRecord, parse_record
from ltrsys.errors import DataError
from ltrsys.files import read_json


class Origin(Protocol):
    """Where the files of a dataset are, if `folder` is but a cache of them."""

    @property
    def place(self) -> str:
        """Its name for messages: a URL."""
        ...

    def url(self, *parts: str) -> str:
        """Return the URL of a file, whose path in the dataset is made of `parts`."""
        ...


@dataclass(frozen=True)
class Split:
    """One split, open for reading. Columns are arrays of shape [samples], memory-mapped where they are large."""

    name: SplitName
    folder: Path
    record: SplitRecord
    label: NDArray[np.int32]
    shard: NDArray[np.uint32]
    offset: NDArray[np.uint64]
    size: NDArray[np.uint32]
    width: NDArray[np.uint16]
    height: NDArray[np.uint16]
    checksum: NDArray[np.uint32]
    origin: Origin | None = None
    """Where the shards are fetched from, if they are not in `folder` for good."""

    def __len__(self) -> int:
        return self.record.samples

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Images of each class, int64 [num_classes]."""
        return np.array(self.record.class_counts, dtype=np.int64)

    def shard_path(self, shard: int) -> Path:
        """Return the tar file of shard number `shard`."""
        return self.folder / "shards" / self.record.shards[shard].name

    def shard_place(self, shard: int) -> str:
        """Name a shard for an error message: its path, or its URL."""
        if self.origin is not None:
            return self.origin.url(self.name, "shards", self.record.shards[shard].name)
        return str(self.shard_path(shard))

    def describe(self, sample: int) -> str:
        """Name a sample for an error message: shard and offset."""
        return f"{self.shard_place(int(self.shard[sample]))} at byte {int(self.offset[sample])} (sample {sample})"


@dataclass(frozen=True)
class Dataset:
    """A folder of shards with its index."""

    folder: Path
    record: DatasetRecord
    origin: Origin | None = None
    """Where the shards are fetched from, if `folder` is a cache."""

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Open the folder that `ltrsys shards` wrote; `remote.open_dataset` also opens a URL.

        Raises:
            DataError: Where it is missing, or is not such a folder.
        """
        path = folder / "dataset.json"
        values = read_json(path, "dataset index", "`ltrsys shards` makes one where there is none.")
        return cls(folder, parse_record(values, str(path)))

    @property
    def place(self) -> str:
        """Where the dataset is: its folder, or its URL."""
        return str(self.folder) if self.origin is None else self.origin.place

    @property
    def num_classes(self) -> int:
        """Classes of all splits together."""
        return len(self.record.classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the dataset's record: equal for byte-identical shards, and part of what a plan depends on."""
        return hashlib.sha256(self.record.model_dump_json().encode()).hexdigest()

    @property
    def has_images(self) -> bool:
        """Whether there are shards: features that were made elsewhere come without."""
        return self.origin is not None or any((self.folder / name / "shards").is_dir() for name in self.record.splits)

    def has(self, split: SplitName) -> bool:
        """Whether the dataset has this split, with at least one image."""
        return split in self.record.splits and self.record.splits[split].samples > 0

    def split(self, name: SplitName) -> Split:
        """Open one split.

        Raises:
            DataError: Where it does not exist, or its columns do not fit its record.
        """
        if not self.has(name):
            have = ", ".join(self.record.splits) or "none"
            raise DataError(f"{self.folder}: there is no `{name}` split here (there is: {have}).")
        record, folder = self.record.splits[name], self.folder / name
        columns: dict[str, Any] = {column: open_column(folder, column, record.samples) for column in COLUMNS}
        return Split(name, folder, record, **columns, origin=self.origin)
