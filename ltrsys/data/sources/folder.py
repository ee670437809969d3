"""A folder per class, with or without a folder per split above them (torchvision's ImageFolder layout)."""

import logging
import os
from pathlib import Path

import numpy as np

from ltrsys.data.index.records import SPLITS, ClassRecord, SplitName
from ltrsys.data.sources.files.formats import IMAGE_ENDINGS, ending
from ltrsys.data.sources.files.image_tree import PassedOver, entries_of, images_below, is_folder, leads_back
from ltrsys.data.sources.files.text_files import names_alike, one_line, quoted
from ltrsys.data.sources.source import SOURCES, FileReader, Items, Source, SourceKind, SourceOptions, require_folder
from ltrsys.errors import DataError, UsageError

log = logging.getLogger("ltrsys")


def read_folder(root: Path) -> Source:
    """Read `root/<split>/<class>/*`, or `root/<class>/*` as a training split alone.

    Class ids follow the sorted names of the class folders of all splits. Links are followed, but for those that lead
    back. A warning counts the files that are no images.

    Raises:
        DataError: Where there is no class folder or no image, or one cannot be read.
    """
    require_folder(root, "the class folders")
    passed_over = PassedOver()
    top = _subfolders(root, "", passed_over)
    folders: dict[SplitName, str] = {split: split for split in SPLITS if split in top}
    if folders and "train" not in folders:
        raise DataError(f"{root}: there are {', '.join(folders)} folders but no `train` folder beside them.")
    if folders and (others := sorted(top - set(folders))):
        log.warning(
            "%s: %s is no split and passed over; splits are called train, val and test.", root, quoted(others[0])
        )
    classes_of = {split: _subfolders(root, folder, passed_over) for split, folder in folders.items()}
    if not folders:
        folders, classes_of = {"train": ""}, {"train": top}
    names = sorted(set().union(*classes_of.values()))
    if not names:
        raise DataError(f"{root}: there is no class folder here; expected {root}/CLASS/IMAGE.jpg.")
    if alike := names_alike(names):
        log.warning(
            "%s: %s differ in case or in blanks only, and become classes of their own. Join these folders if they are "
            "one.",
            root,
            alike,
        )
    splits = {
        split: _read_split(root, folder, names, classes_of[split], passed_over) for split, folder in folders.items()
    }
    passed_over.warn(root)
    if not len(splits["train"]):
        endings = ", ".join(sorted(IMAGE_ENDINGS))
        raise DataError(f"{root / folders['train']}: there is no image in its class folders ({endings}).")
    classes = [ClassRecord(name=name, source_id=name) for name in names]
    reader = FileReader(root)
    return Source("folder", root.resolve().name, classes, splits, reader, reader.version)


def _subfolders(root: Path, folder: str, passed_over: PassedOver) -> set[str]:
    """Return the names of the folders in a folder, which stand for splits or classes.

    Raises:
        DataError: Where a name is no text.
    """
    above = os.path.realpath(root), os.path.realpath(root / folder)
    names = set()
    for entry in entries_of(str(root / folder)):
        if not is_folder(entry):
            if ending(entry.name) in IMAGE_ENDINGS:
                passed_over.add(f"{ending(entry.name)} outside the class folders", entry.path)
        elif any(leads_back(os.path.realpath(entry.path), real) for real in above):
            passed_over.add("links that lead back", entry.path)
        elif not entry.name.isascii() and entry.name.encode(errors="replace").decode() != entry.name:
            name = entry.name.encode(errors="surrogateescape")
            raise DataError(f"{one_line(str(root / folder))}: the name {name!r} of a class is not UTF-8; rename it.")
        else:
            names.add(entry.name)
    return names


def _read_split(root: Path, folder: str, class_names: list[str], present: set[str], passed_over: PassedOver) -> Items:
    names: list[str] = []
    labels: list[int] = []
    skip = len(os.path.join(root, ""))
    for label, class_name in enumerate(class_names):
        if class_name in present:
            found = sorted(path[skip:] for path in images_below(os.path.join(root, folder, class_name), passed_over))
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
        options.refuse_annotation_choices(cls.name)
        return read_folder(options.required_root(cls.name))
