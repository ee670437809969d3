"""Files fetched from elsewhere, kept on this node's own disk up to a size, and shared by its ranks.

    CACHE/lock                          held while room is made
    CACHE/<dataset>/dataset.json        the index, which stays
    CACHE/<dataset>/<split>/index/
    CACHE/<dataset>/<split>/shards/     the shards, of which the longest unused go first

Every lock is the kernel's and goes with its process. A shard that is open is locked against removal; one that is being
fetched is locked, beside its place and at its full size, so that others wait for it and its space is counted.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ltrsys.data.reading.shard_files import ShardFile
from ltrsys.errors import DataError, LtrsysError
from ltrsys.files import explained, locked_file

log = logging.getLogger("ltrsys")


class WrongBytes(DataError):
    """What came is not what `dataset.json` says."""


@dataclass(frozen=True)
class ShardCache:
    """A folder of at most `limit` bytes of shards, the index not counted; more only where more is in use at once."""

    root: Path
    limit: int

    def open(self, path: Path) -> ShardFile | None:
        """Open a shard that nothing removes while it is open; None where it is not there."""
        try:
            file = ShardFile(path)
            fcntl.flock(file.descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError):  # gone, or just being removed
            return None
        if os.fstat(file.descriptor).st_nlink == 0:
            return None
        with suppress(FileNotFoundError):
            os.utime(path)  # used now
        return file

    def fetch(
        self, path: Path, size: int, sha256: str, pieces: Callable[[], Iterable[bytes]], *, counted: bool = True
    ) -> None:
        """Have `path` there, whole; whoever comes first fetches it, and the others wait.

        Args:
            path: A place below `root`.
            size: Its bytes.
            sha256: Its checksum.
            pieces: Yields its content.
            counted: Whether it is one of the shards, for which others may have to go.

        Raises:
            WrongBytes: Where the content does not have this checksum.
            LtrsysError: Where the disk is full, or the cache belongs to somebody else.
        """
        with explained(path):
            self._claim_root()
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".{path.name}.partial")
            with locked_file(beside) as descriptor:
                if path.exists():
                    beside.unlink()
                    return
                try:
                    self._reserve(descriptor, size, counted=counted)
                    digest = hashlib.sha256()
                    written = 0
                    for piece in pieces():
                        digest.update(piece)
                        written += _write(descriptor, piece, written)
                    if written != size or digest.hexdigest() != sha256:
                        raise WrongBytes(f"{written} bytes came, and their checksum is not that of dataset.json")
                    os.fsync(descriptor)
                    os.replace(beside, path)
                except BaseException:
                    beside.unlink(missing_ok=True)
                    raise

    def _claim_root(self) -> None:
        """Make the folder, for nobody else to write: what is in it has been checked and is trusted."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.root.stat().st_uid != os.getuid():
            raise LtrsysError(f"{self.root}: this cache is another user's. Give a folder of your own as data.cache.")

    def _reserve(self, descriptor: int, size: int, *, counted: bool) -> None:
        with locked_file(self.root / "lock"):
            if counted:
                self._make_room(size)
            if size:
                os.posix_fallocate(descriptor, 0, size)

    def _make_room(self, size: int) -> None:
        """Remove the shards that were used longest ago, but none that is open or being fetched."""
        found = [(path.stat(), path) for path in self._shards()]
        total = sum(status.st_size for status, _ in found)
        for status, path in sorted(found, key=lambda one: one[0].st_mtime_ns):
            if total + size <= self.limit:
                return
            with suppress(FileNotFoundError, BlockingIOError), open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                total -= status.st_size
        if total + size > self.limit:
            log.warning(
                "%s: holds %.1f GB for a while: more than data.cache_gb is in use at once; make it larger.",
                self.root,
                (total + size) / 1e9,
            )

    def _shards(self) -> Iterable[Path]:
        for folder in self.root.glob("*/*/shards"):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False) and entry.stat().st_size:
                        yield Path(entry.path)


def _write(descriptor: int, content: bytes, offset: int) -> int:
    view = memoryview(content)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done
    return len(content)
