"""Shards as open files: where they are, and reading a piece of one.

Bytes are copied out of the files by `pread`, never looked at through a memory map: of a file that shrinks or a disk
that fails, a memory map tells the process by a signal that ends it, `pread` by an error that names the place.
"""

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ltrsys.data.index.dataset import Split

_ADVICE_BYTES = 128 * 1024
"""Linux reads no more than a device's read-ahead, 128 KiB by default, for one POSIX_FADV_WILLNEED."""

Encoded = bytes
"""An encoded image."""


class ShardFile:
    """One shard, open for reading until the last reference to it goes."""

    def __init__(self, path: Path) -> None:
        """Open the file, with the kernel's own read-ahead switched off: `advise` says better what will be read."""
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)
        self.bytes = os.fstat(self.descriptor).st_size
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, offset: int, size: int) -> Encoded:
        """Return `size` bytes from `offset` on; fewer, where the file ends before.

        Raises:
            OSError: Where the file cannot be read there.
        """
        content = os.pread(self.descriptor, size, offset)
        while len(content) < size and (more := os.pread(self.descriptor, size - len(content), offset + len(content))):
            content += more
        return content

    def advise(self, begin: int, end: int) -> None:
        """Have the kernel begin to read these bytes."""
        for start in range(begin, end, _ADVICE_BYTES):
            os.posix_fadvise(self.descriptor, start, min(_ADVICE_BYTES, end - start), os.POSIX_FADV_WILLNEED)


class ShardFiles(Protocol):
    """Where the shards of a split are, by their numbers."""

    most_open: int
    """Shards that one process may hold open at once."""
    block_bytes: int
    """About how much is worth being announced at once."""
    advice: str
    """What to do about a shard that is damaged."""

    @property
    def bytes_fetched(self) -> int:
        """Bytes that have come from elsewhere."""

    def begin_pass(self) -> None:
        """Forget what was announced."""

    def announce(self, shards: Sequence[int]) -> None:
        """Have these at hand soon, in this order."""

    def at_hand(self, shard: int) -> bool:
        """Whether `open` would not have to wait."""

    def open(self, shard: int) -> ShardFile:
        """Open a shard.

        Raises:
            OSError: Where it is missing or may not be read.
            DataError: Where it is remote and has been given up.
        """

    def invalidate(self, shard: int) -> bool:
        """Drop the copy of a damaged shard, so that `open` fetches it again; False where there is none to fetch."""

    def close(self) -> None:
        """Give up what is under way."""


class LocalShards:
    """The shards in a dataset's own folder."""

    most_open = 256
    block_bytes = 64 * 2**20
    advice = "Copy it there again, or build the shards again."

    bytes_fetched = 0

    def __init__(self, split: Split) -> None:
        self._split = split

    def begin_pass(self) -> None:
        """Nothing to forget."""

    def announce(self, shards: Sequence[int]) -> None:
        """Nothing: they are there."""

    def at_hand(self, shard: int) -> bool:
        """Whether `open` would not have to wait: always."""
        return True

    def open(self, shard: int) -> ShardFile:
        """Open a shard."""
        return ShardFile(self._split.shard_path(shard))

    def invalidate(self, shard: int) -> bool:
        """There is no other copy: nothing is dropped."""
        return False

    def close(self) -> None:
        """Nothing is under way."""
