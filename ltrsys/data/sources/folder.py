"""A folder per class, with or without a folder per split above them (torchvision's ImageFolder layout)."""

from pathlib import Path

import numpy as np

from ltrsys.data.index.records import SPLITS, ClassRecord, SplitName
from ltrsys.data.sources.source import SOURCES, FileReader, Items, Source, SourceKind, SourceOptions, require_folder
from ltrsys.errors import DataError, UsageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"})
"""Files with another ending are not images and are passed over."""


def read_folder(root: Path) -> Source:
    """Read `root/<split>/<class>/*`, or `root/<class>/*` as a training split alone.

    Class ids follow the sorted names of the class folders of all splits.

    Raises:
        DataError: Where there is no class folder or no image.
    """
    require_folder(root, "the class folders")
    folders: dict[SplitName, Path] = {split: root / split for split in SPLITS if (root / split).is_dir()}
    if not folders:
        folders = {"train": root}
    if "train" not in folders:
        raise DataError(f"{root}: there are {', '.join(folders)} folders but no `train` folder beside them.")
    names = sorted({path.name for folder in folders.values() for path in folder.iterdir() if path.is_dir()})
    if not names:
        raise DataError(f"{root}: there is no class folder here; expected {root}/CLASS/IMAGE.jpg.")
    splits = {split: _read_split(root, folder, names) for split, folder in folders.items()}
    if not len(splits["train"]):
        raise DataError(f"{folders['train']}: there is no image in its class folders ({', '.join(sorted(SUFFIXES))}).")
    classes = [ClassRecord(name=name, source_id=name) for name in names]
    reader = FileReader(root)
    return Source("folder", root.resolve().name, classes, splits, reader, reader.version)


def _read_split(root: Path, folder: Path, class_names: list[str]) -> Items:
    names: list[str] = []
    labels: list[int] = []
    for label, class_name in enumerate(class_names):
        found = sorted(
            path.relative_to(root).as_posix()
            for path in (folder / class_name).rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        names += found
        labels += [label] * len(found)
    return Items(names, np.array(labels, dtype=np.int32))


@SOURCES.register
class Folder(SourceKind):
    """A folder per class."""

    name = "folder"
    summary = "a folder a class, with or without train, val and test above them"
    order = 20

    @classmethod
    def read(cls, options: SourceOptions) -> Source:
        """Read what stands below the root."""
        if options.files:
            raise UsageError("folder finds train, val and test below --root: leave out --train, --val and --test.")
        options.refuse_num_classes(cls.name)
        return read_folder(options.required_root(cls.name))
