"""List files with a `relative/path label` line an image, as ImageNet-LT and Places-LT have them."""

import re
from pathlib import Path

import numpy as np

from ltrsys.data.index.records import ClassRecord, SplitName
from ltrsys.data.sources.source import (
    SOURCES,
    FileReader,
    Items,
    Source,
    SourceKind,
    SourceOptions,
    inside,
    require_folder,
)
from ltrsys.errors import DataError, UsageError

MAX_CLASSES = 1_000_000
"""A higher label is taken for a mistake unless `num_classes` says otherwise."""

_PATH_AND_LABEL = re.compile(r"(?P<path>.*\S)\s+(?P<label>[0-9]+)")


def read_lists(root: Path, lists: dict[SplitName, Path], *, num_classes: int | None = None) -> Source:
    """Read one list file a split.

    A label may be missing from the lists: its class then keeps its id and has no image. Blanks inside a path are
    part of it: the label is what follows the last one.

    Args:
        root: The folder that the paths are relative to.
        lists: The list file of each split.
        num_classes: How many classes there are; one more than the highest label if not given.

    Raises:
        DataError: For a line that is not a path and a label, a label out of range, a path that leads out of the
            root, or one that is listed twice; naming the file and the line.
    """
    require_folder(root, "the images")
    first_seen: dict[str, str] = {}
    splits = {split: _read_list(path, num_classes, first_seen) for split, path in lists.items()}
    highest = max((int(items.labels.max(initial=-1)) for items in splits.values()), default=-1)
    classes = [ClassRecord(name=f"class {label}", source_id=str(label)) for label in range(num_classes or highest + 1)]
    reader = FileReader(root)
    return Source("lists", root.resolve().name, classes, splits, reader, reader.version)


def _read_list(path: Path, num_classes: int | None, first_seen: dict[str, str]) -> Items:
    names, labels = [], []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        match = _PATH_AND_LABEL.fullmatch(line.strip())
        if match is None:
            raise DataError(f"{where}: `{line.strip()}` is not `path label` with a label of 0 or more.")
        name, label = inside(match["path"], where), int(match["label"])
        if label >= (num_classes or MAX_CLASSES):
            limit = f"with --num-classes {num_classes}" if num_classes else "without --num-classes"
            highest = (num_classes or MAX_CLASSES) - 1
            raise DataError(f"{where}: label {label} is out of range: {limit} labels go from 0 to {highest}.")
        if name in first_seen:
            raise DataError(
                f"{where}: `{name}` is listed a second time, first at {first_seen[name]}. Remove one of the lines."
            )
        first_seen[name] = where
        names.append(name)
        labels.append(label)
    if not names:
        raise DataError(f"{path}: this list file is empty.")
    return Items(names, np.array(labels, dtype=np.int32))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such list file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read this list file: {error}.") from None


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
        options.require_train()
        if not options.files:
            raise UsageError("lists needs --train LIST, and mostly --val LIST and --test LIST.")
        return read_lists(root, dict(options.files), num_classes=options.num_classes)
