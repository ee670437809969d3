"""What `dataset.json` says: classes, splits, strata and shards."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ltrsys.errors import DataError, first_problem
from ltrsys.files import write_json

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


_LeftOutIfEmpty = Field(exclude_if=lambda value: not value)
"""Of fields that older datasets do not have: without a value, record and fingerprint stay what they were."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShardRecord(_Record):
    """One tar file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    """File name inside the split's `shards` folder, and no path: a dataset may come from strangers."""
    samples: int
    bytes: int
    sha256: str
    first_key: Annotated[int | None, Field(exclude_if=lambda value: value is None)] = None
    """The key of its first sample, the others following; the number of samples in the shards before it unless given. A
    shard that an update left as it was keeps its keys."""
    appended: Annotated[bool, _LeftOutIfEmpty] = False
    """Whether an update wrote it for a stratum whose other shards stayed: its samples stand between theirs."""


class StratumRecord(_Record):
    """A band of class frequency: samples `first` to `first + samples - 1` of the split."""

    band: int
    """floor(bands_per_octave * log2(n_j)) of its classes; of those that have grown in updates since, what it was."""
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
    taxonomy: Annotated[dict[str, str], _LeftOutIfEmpty] = {}
    """Names of the groups that the class belongs to, by rank, from the widest to the narrowest: kingdom, phylum, class,
    order, family, genus, species. Ranks that are not known are left out."""


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


def first_keys(shards: Sequence[ShardRecord]) -> list[int]:
    """Return the key of the first sample of each shard of a split."""
    firsts = accumulate((shard.samples for shard in shards), initial=0)
    return [first if shard.first_key is None else shard.first_key for shard, first in zip(shards, firsts, strict=False)]


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


def write_record(folder: Path, record: DatasetRecord) -> None:
    """Write `dataset.json`: the last file of a build, whose presence says that the rest is complete."""
    write_json(folder / "dataset.json", record.model_dump(mode="json"))
