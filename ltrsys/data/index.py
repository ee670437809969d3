"""The index of a sharded dataset: columns and one `dataset.json`.

    OUT/dataset.json
    OUT/<split>/index/{label,shard,offset,size,width,height,checksum}.npy
    OUT/<split>/shards/<split>-000000.tar ...

Sample ids count within a split, in the order of its shards; a stratum is a range of sample ids. 30 bytes a
sample: 100 million samples open in milliseconds.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ltrsys.errors import DataError, first_problem
from ltrsys.files import read_json, write_array, write_json

if TYPE_CHECKING:
    from ltrsys.data.remote import RemoteFolder

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")

COLUMNS: dict[str, type[np.generic]] = {
    "label": np.int32,
    "shard": np.uint32,
    "offset": np.uint64,
    "size": np.uint32,
    "width": np.uint16,
    "height": np.uint16,
    "checksum": np.uint32,
}
"""Class id; number of the shard within the split; where the JPEG's bytes start in it; how many they are;
the image's width and height in pixels; what `checksum` makes of the JPEG's bytes."""

COPIED_BYTES = 64 * 2**20
"""A column up to this size, of 8 million samples or more, is copied, and nothing that becomes of its file matters. Of a
file that shrinks, a memory map tells the process by a signal that ends it."""


def checksum(jpeg: bytes | memoryview) -> int:
    """Return the low 32 bits of XXH3 (64 bits): 0.5 us for 25 kB, and one damage in 4 billion goes unnoticed."""
    return xxhash.xxh3_64_intdigest(jpeg) & 0xFFFFFFFF


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShardRecord(_Record):
    """One tar file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    """File name inside the split's `shards` folder, and no path: a dataset may come from strangers."""
    samples: int
    bytes: int
    sha256: str


class StratumRecord(_Record):
    """A band of class frequency: samples `first` to `first + samples - 1` of the split."""

    band: int
    """floor(bands_per_octave * log2(n_j)) of its classes."""
    first: int
    samples: int


class SplitRecord(_Record):
    """One split of the dataset."""

    samples: int
    shards: list[ShardRecord]
    strata: list[StratumRecord]
    class_counts: list[int]
    """Images of each class."""
    columns: dict[str, str]
    """SHA-256 of each file of the index, by the column's name."""


class ClassRecord(_Record):
    """One class; its id is its place in the list."""

    name: str
    supercategory: str | None = None
    source_id: str | None = None
    """What the source calls the class, such as the JSON's category_id."""


class DatasetRecord(_Record):
    """`dataset.json`."""

    format: Literal[2] = 2
    name: str
    source: str
    seed: int
    resize: int | None
    """Short side in pixels that images were reduced to, if they were."""
    bands_per_octave: int
    classes: list[ClassRecord]
    splits: dict[SplitName, SplitRecord]


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
    remote: "RemoteFolder | None" = None
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
        if self.remote is not None:
            return self.remote.url(self.name, "shards", self.record.shards[shard].name)
        return str(self.shard_path(shard))

    def describe(self, sample: int) -> str:
        """Name a sample for an error message: shard and offset."""
        return f"{self.shard_place(int(self.shard[sample]))} at byte {int(self.offset[sample])} (sample {sample})"


@dataclass(frozen=True)
class Dataset:
    """A folder of shards with its index."""

    folder: Path
    record: DatasetRecord
    remote: "RemoteFolder | None" = None
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
        return str(self.folder) if self.remote is None else self.remote.place

    @property
    def num_classes(self) -> int:
        """Classes of all splits together."""
        return len(self.record.classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the dataset's record: equal for byte-identical shards, and part of what a plan depends on."""
        return hashlib.sha256(self.record.model_dump_json().encode()).hexdigest()

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
        columns: dict[str, Any] = {column: _open_column(folder, column, record.samples) for column in COLUMNS}
        return Split(name, folder, record, **columns, remote=self.remote)


def parse_record(values: Any, place: str) -> DatasetRecord:
    """Return what the JSON of a `dataset.json` says.

    Raises:
        DataError: Where that is no such record, naming `place`.
    """
    try:
        return DatasetRecord.model_validate(values)
    except ValidationError as error:
        raise DataError(
            f"{place}: not a dataset index of format 2: {first_problem(error)}. Build it again with `ltrsys shards`."
        ) from None


def write_columns(folder: Path, columns: dict[str, NDArray[np.generic]]) -> dict[str, str]:
    """Write a split's columns (keys and types as in `COLUMNS`) into `folder`/index, each whole or not at all.

    Returns:
        The SHA-256 of each file.
    """
    for column, dtype in COLUMNS.items():
        write_array(column_path(folder, column), columns[column].astype(dtype, casting="same_kind"))

    return {column: column_digest(folder, column) for column in COLUMNS}


def column_digest(folder: Path, column: str) -> str:
    """Return the SHA-256 of one file of a split's index."""
    with open(column_path(folder, column), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(folder: Path, record: DatasetRecord) -> None:
    """Write `dataset.json`: the last file of a build, whose presence says that the rest is complete."""
    write_json(folder / "dataset.json", record.model_dump(mode="json"))


def column_path(folder: Path, column: str) -> Path:
    """Return the file of one column of the split in `folder`."""
    return folder / "index" / f"{column}.npy"


def _open_column(folder: Path, column: str, samples: int) -> NDArray[np.generic]:
    path, dtype = column_path(folder, column), np.dtype(COLUMNS[column])
    try:
        values = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise DataError(f"{path}: this column of the index is missing. Build the shards again.") from None
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: not a column of an index ({error}). Build the shards again.") from None
    if values.dtype != dtype or values.shape != (samples,):
        raise DataError(
            f"{path}: holds {values.shape} {values.dtype}, but dataset.json says ({samples},) {dtype}: they belong "
            "to different builds. Build the shards again."
        )
    return np.array(values) if values.nbytes <= COPIED_BYTES else values
