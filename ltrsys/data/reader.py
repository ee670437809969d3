"""Sample ids → encoded bytes: views of memory-mapped shards, read ahead and counted.

A lane of the plan goes forward through its stretch of each stratum. What lies between two samples that it
takes there is read through if it is short, as a disk does anyway, and skipped if it is long.
"""

import mmap
import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index import Split
from ltrsys.errors import DataError

READ_THROUGH_BYTES = 512 * 1024
"""A gap up to this long is read through; a longer one is skipped, and not counted as read."""
_COUNTED_AT_ONCE = 2**22
"""Announced samples that are remembered before they are counted for good."""
_ADVICE_BYTES = 128 * 1024
"""Linux reads no more than a device's read-ahead, 128 KiB by default, for one call of madvise(MADV_WILLNEED)."""


class Ranges(NamedTuple):
    """Byte ranges of shards, each array int64 [ranges]."""

    shard: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]

    @property
    def total_bytes(self) -> int:
        """Length of all ranges together."""
        return int((self.end - self.begin).sum())


class ShardReader:
    """Hands out the encoded images of a split, and counts what that reads.

    What is counted is what is announced. `bytes_used` is the size of its encoded images. `bytes_read` is, for
    each stretch in each stratum, every byte from the first to the last sample taken there in an epoch (tar
    headers and passed samples included), less the gaps longer than `READ_THROUGH_BYTES`: neither `madvise` nor
    the kernel's own read-ahead, which is switched off, touches those. A sample that is taken again from the
    same stretch in the same epoch counts its own bytes again.
    """

    def __init__(self, split: Split, *, max_open_shards: int = 256) -> None:
        """Open nothing yet.

        Args:
            split: The images.
            max_open_shards: Shards that stay mapped; the one longest unused is given up for another.
        """
        self.bytes_used = 0
        self._split = split
        self._max_open_shards = max_open_shards
        self._open: OrderedDict[int, tuple[mmap.mmap, NDArray[np.uint8]]] = OrderedDict()
        self._strata = np.array([stratum.first for stratum in split.record.strata], dtype=np.int64)
        self._announced: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._counted_bytes = 0
        self._counted_announcements = 0
        self._bytes_of_announced = 0

    def announce(self, samples: NDArray[np.int64], stretches: NDArray[np.int64]) -> None:
        """Have the kernel read what will be needed soon, in one go for neighbours, and count it as read.

        Args:
            samples: Sample ids, [S], in the order of use.
            stretches: The number of the stretch that each is read from (`Plan.stretches`), [S].

        Raises:
            DataError: Where a shard is missing, truncated, or does not fit the index.
        """
        for shard, begin, end in _rows(self._ranges(np.unique(samples))):
            self._advise(shard, begin, end)
        self.bytes_used += int(self._split.size[samples].sum(dtype=np.int64))
        self._announced.append((samples, stretches))
        if sum(len(samples) for samples, _ in self._announced) > _COUNTED_AT_ONCE:
            self.begin_pass()

    @property
    def bytes_read(self) -> int:
        """Bytes read so far, as the class says; takes a moment after a long epoch."""
        if self._announced and self._counted_announcements != len(self._announced):
            samples, stretches = (np.concatenate(parts) for parts in zip(*self._announced, strict=True))
            stretch_and_sample, first = np.unique(stretches * len(self._split) + samples, return_index=True)
            again = self._split.size[samples].sum(dtype=np.int64) - self._split.size[samples[first]].sum(dtype=np.int64)
            ranges = self._ranges(samples[first], stretch_and_sample // len(self._split))
            self._bytes_of_announced = int(again) + ranges.total_bytes
            self._counted_announcements = len(self._announced)
        return self._counted_bytes + self._bytes_of_announced

    def begin_pass(self) -> None:
        """Begin an epoch: its stretches are others, and what is taken there counts anew."""
        self._counted_bytes = self.bytes_read
        self._announced.clear()
        self._bytes_of_announced = self._counted_announcements = 0

    def read(self, samples: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Return the encoded images, uint8 [bytes] each: views that keep their shard mapped.

        Raises:
            DataError: Where a shard is missing, truncated, or does not fit the index.
        """
        shards = self._split.shard[samples].tolist()
        offsets = self._split.offset[samples].tolist()
        sizes = self._split.size[samples].tolist()
        return [
            self._shard(shard)[1][offset : offset + size]
            for shard, offset, size in zip(shards, offsets, sizes, strict=True)
        ]

    def close(self) -> None:
        """Give up the shards; what is still viewed stays mapped until it is not."""
        self._open.clear()

    def _ranges(self, samples: NDArray[np.int64], stretches: NDArray[np.int64] | None = None) -> Ranges:
        """Return what is read for `samples`: per stretch and stratum if stretches are given, else all together."""
        shard = self._split.shard[samples].astype(np.int64)
        begin = self._split.offset[samples].astype(np.int64)
        end = begin + self._split.size[samples]
        keys = [begin, shard]
        if stretches is not None:
            keys += [np.searchsorted(self._strata, samples, side="right"), stretches]
        order = np.lexsort(keys)
        shard, begin, end = shard[order], begin[order], end[order]
        starts = np.ones(len(order), dtype=bool)
        starts[1:] = begin[1:] - end[:-1] > READ_THROUGH_BYTES
        for key in keys[1:]:
            starts[1:] |= np.diff(key[order]) != 0
        first = np.flatnonzero(starts)
        last = np.append(first[1:], len(order))[: len(first)] - 1
        return Ranges(shard[first], begin[first], end[last])

    def _advise(self, shard: int, begin: int, end: int) -> None:
        mapped, _ = self._shard(shard)
        for start in range(begin - begin % mmap.PAGESIZE, end, _ADVICE_BYTES):
            mapped.madvise(mmap.MADV_WILLNEED, start, min(_ADVICE_BYTES, end - start))

    def _shard(self, shard: int) -> tuple[mmap.mmap, NDArray[np.uint8]]:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        mapped = self._map(shard)
        while len(self._open) >= self._max_open_shards:
            self._open.popitem(last=False)
        self._open[shard] = (mapped, np.frombuffer(mapped, dtype=np.uint8))
        return self._open[shard]

    def _map(self, shard: int) -> mmap.mmap:
        path = self._split.shard_path(shard)
        try:
            with open(path, "rb") as file:
                # Touching a page beyond the end of a mapped file would kill the process.
                self._check_size(shard, os.fstat(file.fileno()).st_size)
                mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except FileNotFoundError:
            sample = int(np.searchsorted(self._split.shard, np.uint32(shard)))
            raise DataError(
                f"{path}: this shard is missing (sample {sample} is in it). Copy it there, or build the shards again."
            ) from None
        except OSError as error:
            raise DataError(f"{path}: this shard cannot be read: {error.strerror}.") from error
        mapped.madvise(mmap.MADV_RANDOM)
        return mapped

    def _check_size(self, shard: int, size: int) -> None:
        path, recorded = self._split.shard_path(shard), self._split.record.shards[shard].bytes
        first, stop = np.searchsorted(self._split.shard, np.array([shard, shard + 1], dtype=np.uint32))
        ends = self._split.offset[first:stop].astype(np.int64) + self._split.size[first:stop]
        misplaced = np.flatnonzero((ends > size) | (self._split.size[first:stop] == 0))
        where = f" Sample {first + misplaced[0]} is not where the index says." if len(misplaced) else ""
        if size < recorded:
            raise DataError(
                f"{path}: truncated: {size} of its {recorded} bytes are there.{where} "
                "Copy it there again, or build the shards again."
            )
        if size > recorded or where:
            raise DataError(
                f"{path}: the index does not fit this shard of {size} bytes (dataset.json says {recorded}).{where} "
                "They belong to different builds: build the shards again."
            )


def _rows(ranges: Ranges) -> Iterator[tuple[int, int, int]]:
    return zip(ranges.shard.tolist(), ranges.begin.tolist(), ranges.end.tolist(), strict=True)
