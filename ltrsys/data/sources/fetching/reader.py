"""Images that stand behind URLs: fetched once, politely, and kept in a folder.

    FOLDER/fetched/ab/cdef...      behind a URL, by the digest of the URL
    FOLDER/photos/1/medium.jpg     behind a known address and a path: by the path
    FOLDER/.fetching/              whose turn it is

A file is there whole or not at all. A URL that gave no image leaves a file `.failed` in its place, which has it asked
for again by the next run of the same command.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ltrsys.data.sources.fetching.http_client import fetch
from ltrsys.data.sources.fetching.politeness import Politeness
from ltrsys.errors import UsageError
from ltrsys.files import replaced


def is_url(item: str) -> bool:
    """Tell whether an item is the URL of an image, and no path."""
    return item[:8].lower().startswith(("http://", "https://"))


@dataclass(frozen=True)
class FetchedImages:
    """Reads images, and fetches those that are not there yet."""

    folder: Path | None
    """Where they are kept; None where none is to be fetched."""
    root: Path | None = None
    """The folder of the images that are no URLs."""
    base: str | None = None
    """What stands before all paths in their URL; these are then kept by their path, and not below the root."""
    connections: int = 4
    requests_per_second: float = 10.0

    def __call__(self, item: str) -> bytes:
        """Return the bytes of an image.

        Raises:
            OSError: Where it cannot be read or fetched.
            LtrsysError: Where what was fetched cannot be kept, or a server has stopped answering.
        """
        path = self._path(item)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            if not self._is_fetched(item):
                raise
        assert self.folder is not None
        politeness = Politeness(self.folder / ".fetching", self.connections, self.requests_per_second)
        try:
            content = fetch(item if self.base is None else f"{self.base}/{item}", politeness)
        except OSError as error:
            with replaced(_failed(path), "w") as file:
                file.write(f"{error}\n")
            raise
        with replaced(path) as file:
            file.write(content)
        _failed(path).unlink(missing_ok=True)
        return content

    def version(self, item: str) -> str:
        """Return what changes where a file does, and where an image that could not be fetched may be asked for again.

        Raises:
            OSError: Where there is no file below the root.
        """
        path = self._path(item)
        if not self._is_fetched(item):
            status = path.stat()
            return f"{status.st_size} {status.st_mtime_ns}"
        try:
            return f"failed {_failed(path).stat().st_mtime_ns}"
        except OSError:
            return ""

    def _is_fetched(self, item: str) -> bool:
        return self.base is not None or is_url(item)

    def _path(self, item: str) -> Path:
        if self.base is None and is_url(item):
            assert self.folder is not None
            digest = hashlib.sha256(item.encode(errors="surrogateescape")).hexdigest()[:40]
            return self.folder / "fetched" / digest[:2] / digest[2:]
        folder = self.root if self.base is None else self.folder
        assert folder is not None
        return folder / item


def required_folder(images: Path | None, root: Path | None) -> Path:
    """Return the folder that images are fetched into.

    Raises:
        UsageError: Where none was named.
    """
    folder = images or root
    if folder is None:
        raise UsageError("The images are URLs: name the folder that they are fetched into, --images FOLDER.")
    return folder


def _failed(path: Path) -> Path:
    return path.with_name(f"{path.name}.failed")
