"""What every source gives: lists of images and a function that reads one; and what it is asked for."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import ClassRecord, SplitName
from ltrsys.errors import DataError, UsageError
from ltrsys.registry import Method, Registry

DETAILS = ("observation", "location", "camera", "date", "latitude", "longitude", "licence", "rights_holder")
"""Columns of `Items.details`. A split may be made by the first four, so that their images stand on one side; the last
two are written to `attribution.csv`."""


class ReadImage(Protocol):
    """Turns an item of a source into the bytes of an image file; picklable, since worker processes call it."""

    def __call__(self, item: str) -> bytes:
        """Return the file's bytes, or raise `OSError` where they cannot be read."""


@dataclass(frozen=True)
class Items:
    """The images of one split, in the order of the source."""

    names: list[str]
    """What `read` takes, and what names the image in an error: a path below the root, mostly."""
    labels: NDArray[np.int32]
    """Class ids, [len(names)]."""
    details: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    """What else is known of each image, by the name of the column: strings, or None where it is not known,
    [len(names)] each. `DETAILS` names the columns that are put to use."""

    def __len__(self) -> int:
        return len(self.names)

    def take(self, chosen: NDArray[np.int64]) -> "Items":
        """Return the images at the places `chosen`."""
        details = {column: values[chosen] for column, values in self.details.items()}
        return Items([self.names[place] for place in chosen], self.labels[chosen], details)


@dataclass(frozen=True)
class Source:
    """A dataset as it was found: classes, images and labels, nothing decoded yet."""

    kind: str
    """The name of the source on the command line."""
    name: str
    """The name of the dataset."""
    classes: list[ClassRecord]
    splits: dict[SplitName, Items]
    read: ReadImage
    version: Callable[[str], str] | None = None
    """Tells by something cheap, such as size and time of the file, that an item is what it was when it was last read;
    raises OSError where it cannot be told. None where a name always stands for the same image. Picklable."""


@dataclass(frozen=True)
class SourceOptions:
    """What the command line says of the data set to read."""

    root: Path | None = None
    """The folder of the images."""
    files: Mapping[SplitName, Path] = field(default_factory=dict)
    """List or annotation files, by split."""
    num_classes: int | None = None
    max_count: int | None = None
    """Images of the most frequent class."""
    seed: int = 0
    keep_missing: bool = False
    """Whether a listed image that is not there stays in the list, for the build to reject."""
    merge_classes: bool = False
    """Whether categories of one name become one class."""
    ambiguous: Literal["refuse", "skip"] = "refuse"
    """What becomes of an image that is annotated with several categories."""
    table: Path | None = None
    """A table of all splits."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The columns of tables that are named on the command line, by what they hold."""
    preset: str | None = None
    """The known data set whose tables are read."""
    quality_grade: str = "research"
    """The grade of iNaturalist's observations that are taken, or `any`."""
    images: Path | None = None
    """The folder that images behind URLs are fetched into."""
    photo_url: str | None = None
    """What stands before `photos/...` in the URLs of a preset."""
    connections: int = 4
    """Requests that a server of images gets at a time."""
    requests_per_second: float = 10.0

    def required_root(self, kind: str) -> Path:
        """Return the root.

        Raises:
            UsageError: Where it was not given.
        """
        if self.root is None:
            raise UsageError(f"{kind} needs --root, the folder of the images.")
        return self.root

    def refuse_files(self, kind: str) -> None:
        """Raise a UsageError where a source that needs nothing was given files."""
        if self.root is not None or self.files:
            raise UsageError(f"{kind} needs no files: leave out --root, --train, --val and --test.")
        self.refuse_annotation_choices(kind)

    def refuse_num_classes(self, kind: str) -> None:
        """Raise a UsageError where a source that has the classes that it has was given their number."""
        if self.num_classes is not None:
            raise UsageError(f"--num-classes is for lists, glyphs and digits; {kind} has the classes that it has.")

    def refuse_annotation_choices(self, kind: str) -> None:
        """Raise a UsageError where a source without annotations was told how to read them."""
        if self.merge_classes or self.ambiguous != "refuse":
            option = "--merge-classes" if self.merge_classes else "--ambiguous"
            raise UsageError(f"{option} is for the annotations of inaturalist; {kind} has none.")

    def require_train(self) -> None:
        """Raise a UsageError where other splits were given and train was not."""
        if self.files and "train" not in self.files:
            raise UsageError(
                f"--train is missing: it names the training images, as --{min(self.files)} does the others."
            )


class SourceKind(Method, ABC):
    """A kind of data set that `ltrsys shards` reads."""

    balanced: ClassVar[bool] = False
    """Whether it is balanced by nature, and is cut to a long tail unless told otherwise."""
    reads_tables: ClassVar[bool] = False
    """Whether it takes tables, presets and images behind URLs."""

    @classmethod
    @abstractmethod
    def read(cls, options: SourceOptions) -> Source:
        """Find the classes and images of the data set.

        Raises:
            UsageError: For options that it does not have, or lacks.
            DataError: For files that are not what they claim to be.
        """


SOURCES: Registry[type[SourceKind]] = Registry("source", "ltrsys.data.sources")


@dataclass(frozen=True)
class FileReader:
    """Reads images below a folder."""

    root: Path

    def __call__(self, item: str) -> bytes:
        """Return the bytes of the file `item`, a path relative to the root."""
        return (self.root / item).read_bytes()

    def version(self, item: str) -> str:
        """Return size and time of change of the file, or raise `OSError` where they cannot be told."""
        status = os.stat(os.path.join(self.root, item))  # an update asks for every image: a Path takes longer than this
        return f"{status.st_size} {status.st_mtime_ns}"


def require_folder(root: Path, what: str) -> None:
    """Check that the root of a source is a folder.

    Raises:
        DataError: Where it is not.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; --root names the folder with {what}.")
