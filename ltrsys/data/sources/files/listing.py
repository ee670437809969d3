"""The images that the files of a source list: each there, and each once."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

from ltrsys.data.sources.files.paths import PathRefusedError, Paths
from ltrsys.data.sources.files.text_files import quoted
from ltrsys.errors import DataError

log = logging.getLogger("ltrsys")


class Listing:
    """All images of a source, file by file."""

    def __init__(self, root: Path, *, keep_missing: bool = False) -> None:
        """Begin with no image.

        Args:
            root: The folder that paths are relative to.
            keep_missing: Whether a listed file that is not there stays in the list, for the build to reject.
        """
        self._paths = Paths(root)
        self._keep_missing = keep_missing
        self._numbers: dict[str, int] = {}
        """The number of each image in the order in which they were listed."""
        self._firsts: list[int] = []
        self._wheres: list[Callable[[int], str]] = []

    def names(self, listed: Sequence[str], where: Callable[[int], str]) -> list[str]:
        """Return the one spelling, from the root, of each path of one file.

        Args:
            listed: The paths as they are written.
            where: Names the place in the file of the path of a number.

        Raises:
            DataError: For a path that leads out of the root or to no file, and for an image that was listed before.
        """
        first = len(self._numbers)
        self._firsts.append(first)
        self._wheres.append(where)
        names = []
        missing = []
        for number, path in enumerate(listed):
            try:
                name = self._paths.find(path)
            except PathRefusedError as error:
                raise DataError(f"{where(number)}: {error}") from None
            if name is None:
                name = self._paths.plain(path)
                missing.append(number)
            if self._numbers.setdefault(name, first + number) != first + number:
                before = self._where(self._numbers[name])
                raise DataError(
                    f"{where(number)}: {quoted(name)} is listed a second time, first at {before}. Remove one of them."
                )
            names.append(name)
        if missing:
            self._tell_missing(listed, missing, where)
        return names

    def _where(self, number: int) -> str:
        file = bisect_right(self._firsts, number) - 1
        return self._wheres[file](number - self._firsts[file])

    def _tell_missing(self, listed: Sequence[str], missing: list[int], where: Callable[[int], str]) -> None:
        path = listed[missing[0]]
        count = f" ({len(missing)} of {len(listed)} paths of this file lead nowhere)" if len(missing) > 1 else ""
        said = (
            f"{where(missing[0])}: there is no {quoted(path)} below {self._paths.root}{self._paths.hint(path)}{count}."
        )
        if not self._keep_missing:
            raise DataError(
                f"{said} Correct the path or --root, or let images that are missing be left out and listed with "
                "--on-reject list."
            )
        log.warning("%s", said)
