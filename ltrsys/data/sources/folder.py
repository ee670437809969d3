"""A folder per class, with or without a folder per split above them (torchvision's ImageFolder layout)."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ltrsys.data.index.records import SPLITS, ClassRecord, SplitName
from ltrsys.data.sources.files.formats import IMAGE_ENDINGS, NO_PHOTOGRAPH_ENDINGS, ending, holds_image
from ltrsys.data.sources.files.text_files import names_alike, one_line, quoted
from ltrsys.data.sources.source import SOURCES, FileReader, Items, Source, SourceKind, SourceOptions, require_folder
from ltrsys.errors import DataError, UsageError

log = logging.getLogger("ltrsys")

SYSTEM_NAMES = frozenset(
    {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found"}
)
"""What systems put beside people's files. It is passed over without a word, as is all that begins with a dot."""

_ENDINGS_NAMED = 20
"""Those of the most files; what stands behind the last dot of a name need not be an ending."""


def read_folder(root: Path) -> Source:
    """Read `root/<split>/<class>/*`, or `root/<class>/*` as a training split alone.

    Class ids follow the sorted names of the class folders of all splits. Links are followed, but for those that lead
    back. A warning counts the files that are no images.

    Raises:
        DataError: Where there is no class folder or no image, or one cannot be read.
    """
    require_folder(root, "the class folders")
    passed_over = _PassedOver()
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


@dataclass
class _PassedOver:
    """Counts what is no image."""

    counts: Counter[str] = field(default_factory=Counter)
    example: str = ""

    def add(self, what: str, path: str) -> None:
        self.example = min(self.example or path, path)
        self.counts[what] += 1

    def warn(self, root: Path) -> None:
        if self.counts:
            most = sorted(
                ((count, what) for what, count in self.counts.items()), key=lambda entry: (-entry[0], entry[1])
            )
            counts = ", ".join(f"{count} {one_line(what)}" for count, what in most[:_ENDINGS_NAMED])
            if (others := len(self.counts) - _ENDINGS_NAMED) > 0:
                counts += f" and {others} other endings"
            log.warning(
                "%s: passed over, since they are no images that can be used: %s; the first is %s.",
                root,
                counts,
                quoted(os.path.relpath(self.example, root)),
            )


def _subfolders(root: Path, folder: str, passed_over: _PassedOver) -> set[str]:
    """Return the names of the folders in a folder, which stand for splits or classes.

    Raises:
        DataError: Where a name is no text.
    """
    above = os.path.realpath(root), os.path.realpath(root / folder)
    names = set()
    for entry in _entries(str(root / folder)):
        if not _is_folder(entry):
            if ending(entry.name) in IMAGE_ENDINGS:
                passed_over.add(f"{ending(entry.name)} outside the class folders", entry.path)
        elif any(_leads_back(os.path.realpath(entry.path), real) for real in above):
            passed_over.add("links that lead back", entry.path)
        elif not entry.name.isascii() and entry.name.encode(errors="replace").decode() != entry.name:
            name = entry.name.encode(errors="surrogateescape")
            raise DataError(f"{one_line(str(root / folder))}: the name {name!r} of a class is not UTF-8; rename it.")
        else:
            names.add(entry.name)
    return names


def _read_split(root: Path, folder: str, class_names: list[str], present: set[str], passed_over: _PassedOver) -> Items:
    names: list[str] = []
    labels: list[int] = []
    skip = len(os.path.join(root, ""))
    for label, class_name in enumerate(class_names):
        if class_name in present:
            found = sorted(path[skip:] for path in _images(os.path.join(root, folder, class_name), passed_over))
            names += found
            labels += [label] * len(found)
    return Items(names, np.array(labels, dtype=np.int32))


def _images(class_folder: str, passed_over: _PassedOver) -> Iterator[str]:
    """Yield the paths of the images below a class folder. Each folder is read once, though links lead to it."""
    home = os.path.realpath(class_folder)
    read: set[str] = set()
    waiting = [(class_folder, home)]  # and no recursion, which a deep tree would end
    links: list[tuple[str, str]] = []
    while waiting or links:
        if not waiting:
            waiting.append(links.pop(links.index(min(links))))  # last, and in the order of their names
        folder, real = waiting.pop()
        if real in read:
            passed_over.add("links that lead back", folder)
            continue
        read.add(real)
        for entry in _entries(folder):
            if not _is_folder(entry):
                if _is_image(entry):
                    yield entry.path
                else:
                    passed_over.add(ending(entry.name) or "without an ending", entry.path)
            elif not entry.is_symlink():
                waiting.append((entry.path, os.path.join(real, entry.name)))
            elif _leads_back(target := os.path.realpath(entry.path), real) or _leads_back(target, home):
                passed_over.add("links that lead back", entry.path)
            else:
                links.append((entry.path, target))


def _leads_back(target: str, folder: str) -> bool:
    """Tell whether `target` is `folder` or above it."""
    return folder == target or folder.startswith(os.path.join(target, ""))


def _is_image(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
        return False  # a pipe, which would not end, or a device
    suffix = ending(entry.name)
    if suffix in IMAGE_ENDINGS:
        return True  # a link to nothing too: the build names it, and does not lose it
    return suffix not in NO_PHOTOGRAPH_ENDINGS and os.path.isfile(entry.path) and holds_image(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what stands in a folder, without what systems put there.

    Raises:
        DataError: Where the folder cannot be read.
    """
    try:
        with os.scandir(folder) as listing:
            entries = [entry for entry in listing if entry.name[0] != "." and entry.name.casefold() not in SYSTEM_NAMES]
    except OSError as error:
        raise DataError(
            f"{one_line(folder)}: this folder cannot be read ({error.strerror}). Change that, or move it away."
        ) from None
    return entries


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
