"""Sample ids → encoded bytes: read ahead, counted, and checked against their checksums.

A lane of the plan goes forward through its stretch of each stratum. What lies between two samples that it
takes there is read through if it is short, as a disk does anyway, and skipped if it is long.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index import Split, checksum
from ltrsys.data.shard_files import Encoded, ShardFile, open_files
from ltrsys.errors import DataError

READ_THROUGH_BYTES = 512 * 1024
"""A gap up to this long is read through; a longer one is skipped, and not counted as read."""
_COUNTED_AT_ONCE = 2**22
"""Announced samples that are remembered before they are counted for good."""


class BadSample(DataError):
    """An image that cannot be had as the index says."""

    def __init__(self, split: Split, sample: int, message: str) -> None:
        super().__init__(message)
        self.split, self.sample = split, sample


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
    headers and passed samples included), less the gaps longer than `READ_THROUGH_BYTES`: neither `posix_fadvise`
    nor the kernel's own read-ahead, which is switched off, touches those. A sample that is taken again from the
    same stretch in the same epoch counts its own bytes again.
    """

    def __init__(self, split: Split, *, max_open_shards: int = 256) -> None:
        """Open nothing yet.

        Args:
            split: The images.
            max_open_shards: Shards that stay open; the one longest unused is given up for another.
        """
        self.bytes_used = 0
        self._split = split
        self._files = open_files(split)
        self._max_open_shards = min(max_open_shards, self._files.most_open)
        self._open: OrderedDict[int, ShardFile] = OrderedDict()
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
        """
        shards = self._split.shard[samples]
        self._files.announce(shards[np.sort(np.unique(shards, return_index=True)[1])].tolist())
        for shard, begin, end in _rows(self._ranges(np.unique(samples))):
            self._advise(shard, begin, end)
        self.bytes_used += int(self._split.size[samples].sum(dtype=np.int64))
        self._announced.append((samples, stretches))
        if sum(len(samples) for samples, _ in self._announced) > _COUNTED_AT_ONCE:
            self._settle()

    @property
    def block_bytes(self) -> int:
        """About how much is worth being announced at once, so that neighbours are read together."""
        return self._files.block_bytes

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
        self._files.begin_pass()
        self._settle()

    def _settle(self) -> None:
        self._counted_bytes = self.bytes_read
        self._announced.clear()
        self._bytes_of_announced = self._counted_announcements = 0

    def read(self, samples: NDArray[np.int64]) -> list[Encoded | BadSample]:
        """Return the encoded images, and in the place of one that cannot be had the error that says why.

        Raises:
            DataError: Where a remote shard has not come for so long that it is given up.
        """
        columns = (self._split.shard, self._split.offset, self._split.size, self._split.checksum)
        rows = zip(samples.tolist(), *(column[samples].tolist() for column in columns), strict=True)
        return [self._read(*row) for row in rows]

    def close(self) -> None:
        """Give up the shards."""
        self._open.clear()
        self._files.close()

    def _read(self, sample: int, shard: int, offset: int, size: int, expected: int) -> Encoded | BadSample:
        found = self._try(sample, shard, offset, size, expected)
        if isinstance(found, BadSample):
            self._open.pop(shard, None)
            if self._files.renew(shard):
                return self._try(sample, shard, offset, size, expected)
        return found

    def _try(self, sample: int, shard: int, offset: int, size: int, expected: int) -> Encoded | BadSample:
        place, advice = self._split.shard_place, self._files.advice
        try:
            file = self._file(shard)
            encoded = file.read(offset, size)
        except FileNotFoundError:
            what = f"{place(shard)}: this shard is missing (sample {sample} is in it). {advice}"
            return BadSample(self._split, sample, what)
        except OSError as error:
            what = f"{self._split.describe(sample)}: this shard cannot be read: {error.strerror}. {advice}"
            return BadSample(self._split, sample, what)
        if len(encoded) == size > 0 and checksum(encoded.data) == expected:
            return encoded
        return BadSample(self._split, sample, self._what_is_wrong(shard, sample, os.fstat(file.descriptor).st_size))

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
        if self._files.at_hand(shard):
            with suppress(OSError):  # whoever reads a sample of it is told
                self._file(shard).advise(begin, end)

    def _file(self, shard: int) -> ShardFile:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        while len(self._open) >= self._max_open_shards:
            self._open.popitem(last=False)
        self._open[shard] = self._files.open(shard)
        return self._open[shard]

    def _what_is_wrong(self, shard: int, sample: int, size: int) -> str:
        """Say why the bytes of a sample are not its own, by the size of its shard now."""
        place, recorded = self._split.shard_place(shard), self._split.record.shards[shard].bytes
        end = int(self._split.offset[sample]) + int(self._split.size[sample])
        if size < recorded:
            lost = "is cut off" if end > size else "is damaged too"
            return (
                f"{place}: truncated: {size} of its {recorded} bytes are there, and sample {sample} {lost}. "
                f"{self._files.advice}"
            )
        if size > recorded or end > size or not self._split.size[sample]:
            return (
                f"{place}: the index does not fit this shard of {size} bytes (dataset.json says {recorded}): sample "
                f"{sample} is not where the index says. They belong to different builds: build the shards again."
            )
        return (
            f"{self._split.describe(sample)}: its bytes do not have the checksum of the index. The shard has changed "
            f"since it was built: `ltrsys inspect --verify` lists what is damaged. {self._files.advice}"
        )


def _rows(ranges: Ranges) -> Iterator[tuple[int, int, int]]:
    return zip(ranges.shard.tolist(), ranges.begin.tolist(), ranges.end.tolist(), strict=True)
