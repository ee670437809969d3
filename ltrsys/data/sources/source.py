"""What every source is: lists of images and a function that reads one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import ClassRecord, SplitName
from ltrsys.errors import DataError


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

    def __len__(self) -> int:
        return len(self.names)

    def part(self, first: int, end: int) -> "Items":
        """Return the images from place `first` to before `end`."""
        return Items(self.names[first:end], self.labels[first:end])

    def take(self, chosen: NDArray[np.int64]) -> "Items":
        """Return the images at the places `chosen`."""
        return Items([self.names[place] for place in chosen], self.labels[chosen])


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


@dataclass(frozen=True)
class FileReader:
    """Reads images below a folder."""

    root: Path

    def __call__(self, item: str) -> bytes:
        """Return the bytes of the file `item`, a path relative to the root."""
        return (self.root / item).read_bytes()


def require_folder(root: Path, what: str) -> None:
    """Check that the root of a source is a folder.

    Raises:
        DataError: Where it is not.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; --root names the folder with {what}.")


def inside(path: str, where: str) -> str:
    """Return a listed path in its one plain spelling (`./a//b.jpg` is `a/b.jpg`), if it stays below the root.

    Raises:
        DataError: For an absolute path, or one that climbs out of the root. `where` names the line.
    """
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise DataError(
            f"{where}: `{path}` leads out of the root. Paths are relative to --root and may not contain `..`."
        )
    return Path(path).as_posix()
