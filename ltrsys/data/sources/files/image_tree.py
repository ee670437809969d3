"""The images below a folder, as they lie on people's disks."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ltrsys.data.sources.files.formats import IMAGE_ENDINGS, NO_PHOTOGRAPH_ENDINGS, ending, holds_image
from ltrsys.data.sources.files.text_files import one_line, quoted
from ltrsys.errors import DataError

log = logging.getLogger("ltrsys")

SYSTEM_NAMES = frozenset(
    {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found"}
)
"""What systems put beside people's files. It is passed over without a word, as is all that begins with a dot."""

_ENDINGS_NAMED = 20
"""Those of the most files; what stands behind the last dot of a name need not be an ending."""


@dataclass
class PassedOver:
    """Counts what is no image."""

    counts: Counter[str] = field(default_factory=Counter)
    example: str = ""

    def add(self, what: str, path: str) -> None:
        """Count a file of the kind `what`."""
        self.example = min(self.example or path, path)
        self.counts[what] += 1

    def warn(self, root: Path) -> None:
        """Say in one line how many files of which kinds were passed over, where there are any."""
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


def images_below(top: str, passed_over: PassedOver) -> Iterator[str]:
    """Yield the paths of the images below a folder, in no order. Each folder is read once, though links lead to it.

    Raises:
        DataError: Where a folder cannot be read.
    """
    home = os.path.realpath(top)
    read: set[str] = set()
    waiting = [(top, home)]  # and no recursion, which a deep tree would end
    links: list[tuple[str, str]] = []
    while waiting or links:
        if not waiting:
            waiting.append(links.pop(links.index(min(links))))  # last, and in the order of their names
        folder, real = waiting.pop()
        if real in read:
            passed_over.add("links that lead back", folder)
            continue
        read.add(real)
        for entry in entries_of(folder):
            if not is_folder(entry):
                if _is_image(entry):
                    yield entry.path
                else:
                    passed_over.add(ending(entry.name) or "without an ending", entry.path)
            elif not entry.is_symlink():
                waiting.append((entry.path, os.path.join(real, entry.name)))
            elif leads_back(target := os.path.realpath(entry.path), real) or leads_back(target, home):
                passed_over.add("links that lead back", entry.path)
            else:
                links.append((entry.path, target))


def leads_back(target: str, folder: str) -> bool:
    """Tell whether `target` is `folder` or above it."""
    return folder == target or folder.startswith(os.path.join(target, ""))


def _is_image(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
        return False  # a pipe, which would not end, or a device
    suffix = ending(entry.name)
    if suffix in IMAGE_ENDINGS:
        return True  # a link to nothing too: the build names it, and does not lose it
    return suffix not in NO_PHOTOGRAPH_ENDINGS and os.path.isfile(entry.path) and holds_image(entry.path)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether it is a folder, or leads to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def entries_of(folder: str) -> list[os.DirEntry[str]]:
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
