"""Where a listed path leads below the root, however the list spells it."""

import os
import unicodedata
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from ltrsys.data.sources.files.text_files import one_line, quoted
from ltrsys.errors import DataError


class PathRefusedError(DataError):
    """A listed path that can be no image below the root; the message says why, not where it is listed."""


class Paths:
    """Finds listed paths below a root. Each folder is listed once, and not one file is asked for by itself."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._roots = sorted({os.path.abspath(root), os.path.realpath(root)})
        self._files: dict[str, frozenset[str]] = {}
        self._entries: dict[str, dict[str, list[str]]] = {}

    def find(self, listed: str) -> str | None:
        """Return the path from the root of the file that a list means, in its one spelling (`./a//b.jpg` is `a/b.jpg`).

        Backslashes, `%20`, an absolute path and another case of letters are understood where they lead to one file.

        Returns:
            The path, or None where there is no such file.

        Raises:
            PathRefusedError: For a path that leads out of the root.
            DataError: For a folder that cannot be read.
        """
        folder, _, name = listed.rpartition("/")
        if _is_plain(listed) and name in self._in(folder):
            return listed
        if "\0" in listed or listed.encode(errors="replace").decode() != listed:
            raise PathRefusedError(f"{quoted(listed)} can be no path: it has characters that no file name has.")
        within = [path for spelling in _spellings(listed) if (path := self._within(spelling)) is not None]
        if not within:
            end = self._end_that_is_there(listed)
            advice = f" Its end, {quoted(end)}, is there: list that." if end else ""
            raise PathRefusedError(
                f"{quoted(listed)} leads out of the root. "
                f"Paths are relative to --root and may not contain `..`.{advice}"
            )
        exact = (path for path in within if self._is_file(path))
        alike = (path for path in map(self._in_another_case, within) if path is not None)
        return next(exact, None) or next(alike, None)

    def plain(self, listed: str) -> str:
        """Return a path that leads to no file in its one spelling."""
        return self._within(listed) or listed

    def hint(self, listed: str) -> str:
        """Return what a path that leads to no file may have meant, as the end of a sentence: `; the nearest ...`."""
        if end := self._end_that_is_there(listed):
            return f"; its end, {quoted(end)}, is there"
        remark = ", with `/` for its backslashes or without" if "\\" in listed else ""
        path = next(path for spelling in reversed(_spellings(listed)) if (path := self._within(spelling)) is not None)
        folder = ""
        for part in PurePosixPath(path).parts:
            deeper = os.path.join(folder, part)
            if os.path.isdir(self.root / deeper):
                folder = deeper
                continue
            names = [name for names in self._names(folder).values() for name in names]
            nearest = get_close_matches(part, names, n=1)
            return remark + (
                f"; the nearest name there is {quoted(os.path.join(folder, nearest[0]))}" if nearest else ""
            )
        return f"{remark}; it is a folder"

    def _end_that_is_there(self, listed: str) -> str | None:
        parts = PurePosixPath(_spellings(listed)[-1]).parts
        ends = ["/".join(parts[first:]) for first in range(1, len(parts)) if ".." not in parts[first:]]
        return next((end for end in ends if self._is_file(end)), None)

    def _within(self, path: str) -> str | None:
        """Return a path's one spelling from the root, or None where it leads out of it."""
        if path.startswith("/"):
            real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            for root in self._roots:
                for spelling in (path, real):
                    if spelling.startswith(os.path.join(root, "")):
                        return self._within(os.path.relpath(spelling, root) if ".." not in spelling else "..")
            return None
        pure = PurePosixPath(path)
        return None if ".." in pure.parts else pure.as_posix()

    def _is_file(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return name in self._in(folder)

    def _in_another_case(self, path: str) -> str | None:
        """Return the one file whose path is the same in all but case and composition of letters."""
        found = ""
        for part in PurePosixPath(path).parts:
            alike = self._names(found).get(_folded(part), [])
            if part not in alike and len(alike) != 1:
                return None
            found = os.path.join(found, part if part in alike else alike[0])
        return found if self._is_file(found) else None

    def _in(self, folder: str) -> frozenset[str]:
        """Return the names of the files in a folder; none where there is no such folder."""
        if folder not in self._files:
            self._files[folder] = frozenset(
                entry.name for entry in self._scan(folder) if not entry.is_dir(follow_symlinks=False)
            )
        return self._files[folder]

    def _names(self, folder: str) -> dict[str, list[str]]:
        """Return the names in a folder by their spelling without case."""
        if folder not in self._entries:
            entries: dict[str, list[str]] = {}
            for entry in self._scan(folder):
                entries.setdefault(_folded(entry.name), []).append(entry.name)
            self._entries[folder] = entries
        return self._entries[folder]

    def _scan(self, folder: str) -> Iterator[os.DirEntry[str]]:
        path = os.path.join(self.root, folder)
        try:
            with os.scandir(path) as entries:
                yield from entries
        except PermissionError as error:
            raise DataError(
                f"{one_line(path)}: this folder cannot be read ({error.strerror}). Change that, or list none of it."
            ) from None
        except (
            OSError,
            ValueError,
        ):  # there is none, or the listed name can be none: too long, not Unicode, with a NUL
            return


def _is_plain(path: str) -> bool:
    return path[:1] not in ("", "/", ".") and "//" not in path and "/." not in path


def _folded(name: str) -> str:
    # Systems differ in how they compose letters with accents: macOS takes them apart.
    return unicodedata.normalize("NFC", name).casefold()


def _spellings(listed: str) -> list[str]:
    """Return what a listed path may mean: itself, with slashes for backslashes, and both with `%20` read as a blank."""
    spellings = dict.fromkeys((listed, listed.replace("\\", "/")))
    spellings |= dict.fromkeys([unquote(spelling) for spelling in spellings])
    return list(spellings)
