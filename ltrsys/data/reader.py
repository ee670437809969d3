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
    """Hands out the encoded images of a split.

    `bytes_used` counts the encoded bytes handed out, each time they are. `bytes_read` counts what has been
    announced: of each lane in each stratum, every byte from the first to the last sample taken (tar headers
    and skipped samples included), less the gaps longer than `READ_THROUGH_BYTES`, which neither `madvise`
    nor the kernel's own read-ahead (switched off) touches. A sample that a lane takes again counts again.
    """

    def __init__(self, split: Split, *, max_open_shards: int = 256) -> None:
        """Open nothing yet.

        Args:
            split: The images.
            max_open_shards: Shards that stay mapped; the one longest unused is given up for another.
        """
        self.bytes_used = 0
        self.bytes_read = 0
        self._split = split
        self._max_open_shards = max_open_shards
        self._open: OrderedDict[int, tuple[mmap.mmap, NDArray[np.uint8]]] = OrderedDict()
        self._strata = np.array([stratum.first for stratum in split.record.strata], dtype=np.int64)
        nothing = np.empty(0, dtype=np.int64)
        self._announced = (nothing, nothing)

    def announce(self, samples: NDArray[np.int64], lanes: NDArray[np.int64]) -> None:
        """Have the kernel read what will be needed soon, in one go for neighbours, and count it as read.

        Args:
            samples: Sample ids, [S], in the order of use.
            lanes: The lane that each belongs to, [S].

        Raises:
            DataError: Where a shard is missing, truncated, or does not fit the index.
        """
        for shard, begin, end in _rows(self._ranges(np.unique(samples))):
            self._advise(shard, begin, end)
        # What these samples add to the ranges of those announced before, so that a gap between two
        # announcements counts too, and a byte that both pass over only once.
        before_samples, before_lanes = self._announced
        self.bytes_read += self._ranges(
            np.concatenate([before_samples, samples]), np.concatenate([before_lanes, lanes])
        ).total_bytes
        self.bytes_read -= self._ranges(before_samples, before_lanes).total_bytes
        self._announced = (samples, lanes)

    def read(self, samples: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Return the encoded images, uint8 [bytes] each: views that keep their shard mapped.

        Raises:
            DataError: Where a shard is missing, truncated, or does not fit the index.
        """
        shards = self._split.shard[samples].tolist()
        offsets = self._split.offset[samples].tolist()
        sizes = self._split.size[samples].tolist()
        self.bytes_used += sum(sizes)
        return [
            self._shard(shard)[1][offset : offset + size]
            for shard, offset, size in zip(shards, offsets, sizes, strict=True)
        ]

    def close(self) -> None:
        """Give up the shards; what is still viewed stays mapped until it is not."""
        self._open.clear()

    def _ranges(self, samples: NDArray[np.int64], lanes: NDArray[np.int64] | None = None) -> Ranges:
        """Return what is read for `samples`: per lane and stratum if lanes are given, else all together."""
        shard = self._split.shard[samples].astype(np.int64)
        begin = self._split.offset[samples].astype(np.int64)
        end = begin + self._split.size[samples]
        keys = [begin, shard]
        if lanes is not None:
            keys += [np.searchsorted(self._strata, samples, side="right"), _occurrence(samples, lanes), lanes]
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


def _occurrence(samples: NDArray[np.int64], lanes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each place, how often its lane took its sample before, [S]."""
    order = np.lexsort([samples, lanes])
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(samples[order]) != 0) | (np.diff(lanes[order]) != 0)
    place = np.arange(len(order))
    occurrence = np.empty(len(order), dtype=np.int64)
    occurrence[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    return occurrence


def _rows(ranges: Ranges) -> Iterator[tuple[int, int, int]]:
    return zip(ranges.shard.tolist(), ranges.begin.tolist(), ranges.end.tolist(), strict=True)
