"""List files with a `relative/path label` line an image, as ImageNet-LT and Places-LT have them."""

import re
from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import ClassRecord, SplitName
from ltrsys.data.sources.files.listing import Listing
from ltrsys.data.sources.files.text_files import quoted, read_utf8, refuse_other_encodings
from ltrsys.data.sources.source import (
    SOURCES,
    FileReader,
    Items,
    Source,
    SourceKind,
    SourceOptions,
    require_folder,
)
from ltrsys.errors import DataError, UsageError

MAX_CLASSES = 1_000_000
"""A higher label is taken for a mistake unless `num_classes` says otherwise."""

_PATH_AND_LABEL = re.compile(r"(?P<path>.*\S)\s+(?P<label>[0-9]+)")
_NUMBER = re.compile(r"[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?\.?")


def read_lists(
    root: Path, lists: dict[SplitName, Path], *, num_classes: int | None = None, keep_missing: bool = False
) -> Source:
    """Read one list file a split.

    A label may be missing from the lists: its class then keeps its id and has no image. Blanks inside a path are
    part of it: the label is what follows the last one.

    Args:
        root: The folder that the paths are relative to.
        lists: The list file of each split.
        num_classes: How many classes there are; one more than the highest label if not given.
        keep_missing: Whether an image that is not there stays in the list, for the build to reject.

    Raises:
        DataError: For a line that is not a path and a label, a label out of range, a path that leads out of the
            root or to no file, or an image that is listed twice, naming the file and the line; and, without
            `num_classes`, where most labels up to the highest have no image.
    """
    require_folder(root, "the images")
    listing = Listing(root, keep_missing=keep_missing)
    files = {split: _List(path, num_classes) for split, path in lists.items()}
    if num_classes is None:
        num_classes = _num_classes(list(files.values()))
    splits = {split: Items(listing.names(file.paths, file.where), file.labels) for split, file in files.items()}
    classes = [ClassRecord(name=f"class {label}", source_id=str(label)) for label in range(num_classes)]
    reader = FileReader(root)
    return Source("lists", root.resolve().name, classes, splits, reader, reader.version)


class _List:
    """One list file."""

    def __init__(self, path: Path, num_classes: int | None) -> None:
        self.path = path
        self.paths: list[str] = []
        self._lines = array("q")
        labels = array("q")
        for number, line in enumerate(_lines(path), start=1):
            text = line.strip()
            if not text:
                continue
            match = _PATH_AND_LABEL.fullmatch(text)
            if match is None:
                raise DataError(f"{path}:{number}: {_what_is_wrong(text)}")
            digits = match["label"]
            # Python reads no number of thousands of digits, and numpy none of more than nineteen.
            label = int(digits) if len(digits) < 19 else 10**18
            if label >= (num_classes or MAX_CLASSES):
                limit = f"with --num-classes {num_classes}" if num_classes else "without --num-classes"
                highest = (num_classes or MAX_CLASSES) - 1
                raise DataError(
                    f"{path}:{number}: label {digits[:20]} is out of range: {limit} labels go from 0 to {highest}."
                )
            self.paths.append(match["path"])
            self._lines.append(number)
            labels.append(label)
        if not self.paths:
            raise DataError(f"{path}: this list file is empty. Expected a line `path label` for each image.")
        self.labels: NDArray[np.int32] = np.array(labels, dtype=np.int32)

    def where(self, place: int) -> str:
        """Name the line of the image at a place of the list."""
        return f"{self.path}:{self._lines[place]}"


def _what_is_wrong(line: str) -> str:
    label = line.split()[-1]
    if label != line and _NUMBER.fullmatch(label):
        return f"{quoted(line)}: the label `{label}` is not a whole number. Labels are 0, 1, 2, ..."
    return f"{quoted(line)} is not `path label` with a label of 0 or more after a blank."


def _num_classes(files: list[_List]) -> int:
    """Return one more than the highest label.

    Raises:
        DataError: Where most labels up to it have no image: it is a mistake then, mostly.
    """
    labels = np.concatenate([file.labels for file in files])
    num_classes, num_used = int(labels.max()) + 1, len(np.unique(labels))
    if 2 * num_used < num_classes:
        highest = next(file for file in files if file.labels.max() == num_classes - 1)
        raise DataError(
            f"{highest.where(int(highest.labels.argmax()))}: label {num_classes - 1} would make {num_classes} classes, "
            f"and only {num_used} of them have an image. Correct it, or say --num-classes {num_classes} if it is right."
        )
    return num_classes


def _lines(path: Path) -> list[str]:
    data = read_utf8(path, "list file")
    refuse_other_encodings(path, data)
    return data.decode().split("\n")


@SOURCES.register
class Lists(SourceKind):
    """List files."""

    name = "lists"
    summary = "list files with a path and a label a line, as of ImageNet-LT and Places-LT"
    order = 10

    @classmethod
    def read(cls, options: SourceOptions) -> Source:
        """Read the lists that were given."""
        root = options.required_root(cls.name)
        options.refuse_annotation_choices(cls.name)
        options.require_train()
        if not options.files:
            raise UsageError("lists needs --train LIST, and mostly --val LIST and --test LIST.")
        return read_lists(root, dict(options.files), num_classes=options.num_classes, keep_missing=options.keep_missing)
