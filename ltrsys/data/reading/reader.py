"""Sample ids → encoded bytes: read ahead, and checked against their checksums.

Samples come in random order, as the plan has them. What comes soon is asked of the kernel together, in the order of the
disk, and neighbours in one go.
"""

import os
from collections import OrderedDict
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.columns import checksum
from ltrsys.data.index.dataset import Split
from ltrsys.data.reading.opening import open_files
from ltrsys.data.reading.ranges import ReadAmplification, ranges_of
from ltrsys.data.reading.shard_files import Encoded, ShardFile
from ltrsys.errors import DataError


class BadSample(DataError):
    """An image that cannot be had as the index says."""

    def __init__(self, split: Split, sample: int, message: str) -> None:
        super().__init__(message)
        self.split, self.sample = split, sample


class ShardReader:
    """Hands out the encoded images of a split."""

    def __init__(self, split: Split, *, max_open_shards: int = 256) -> None:
        """Open nothing yet.

        Args:
            split: The images.
            max_open_shards: Shards that stay open; the one longest unused is given up for another.
        """
        self.amplification = ReadAmplification(split)
        """Of what has been announced."""
        self._split = split
        self._files = open_files(split)
        self._max_open_shards = min(max_open_shards, self._files.most_open)
        self._open: OrderedDict[int, ShardFile] = OrderedDict()

    def announce(self, samples: NDArray[np.int64]) -> None:
        """Have the kernel read what will be needed soon, in one go for neighbours.

        Args:
            samples: Sample ids, [S], in the order of use.
        """
        shards = self._split.shard[samples]
        self._files.announce(shards[np.sort(np.unique(shards, return_index=True)[1])].tolist())
        ranges = ranges_of(self._split, samples)
        for shard, begin, end in zip(*(column.tolist() for column in ranges), strict=True):
            self._advise(shard, begin, end)
        self.amplification.add(samples, ranges)

    @property
    def block_bytes(self) -> int:
        """About how much is worth being announced at once, so that neighbours are read together."""
        return self._files.block_bytes

    @property
    def bytes_fetched(self) -> int:
        """Bytes that have come from a server, for shards behind a URL."""
        return self._files.bytes_fetched

    def begin_pass(self) -> None:
        """Begin an epoch: what was announced before does not come any more."""
        self._files.begin_pass()

    def read(self, samples: NDArray[np.int64]) -> list[Encoded | BadSample]:
        """Return the encoded images, and in the place of one that cannot be had the error that says why.

        Raises:
            DataError: Where a remote shard has not come for so long that it is given up.
        """
        columns = (self._split.shard, self._split.offset, self._split.size, self._split.checksum)
        rows = list(zip(samples.tolist(), *(column[samples].tolist() for column in columns), strict=True))
        for shard in {row[1] for row in rows} & self._open.keys():
            self._open.move_to_end(shard)
        return [self._read_if_open(*row) or self._read_or_refetch(*row) for row in rows]

    def close(self) -> None:
        """Give up the shards."""
        self._open.clear()
        self._files.close()

    def _read_if_open(self, sample: int, shard: int, offset: int, size: int, expected: int) -> Encoded | None:
        """Return the image where its shard is open and holds what it should, else None."""
        file = self._open.get(shard)
        if file is None:
            return None
        try:
            content = os.pread(file.descriptor, size, offset)
        except OSError:
            return None
        return content if len(content) == size and checksum(content) == expected else None

    def _read_or_refetch(self, sample: int, shard: int, offset: int, size: int, expected: int) -> Encoded | BadSample:
        """Read an image; where it is bad, once more from a fresh copy of its shard if there is one to be had."""
        found = self._read_once(sample, shard, offset, size, expected)
        if isinstance(found, BadSample):
            self._open.pop(shard, None)
            if self._files.invalidate(shard):
                return self._read_once(sample, shard, offset, size, expected)
        return found

    def _read_once(self, sample: int, shard: int, offset: int, size: int, expected: int) -> Encoded | BadSample:
        place, advice = self._split.shard_place, self._files.advice
        try:
            file = self._open_file(shard)
            encoded = file.read(offset, size)
        except FileNotFoundError:
            what = f"{place(shard)}: this shard is missing (sample {sample} is in it). {advice}"
            return BadSample(self._split, sample, what)
        except OSError as error:
            what = f"{self._split.describe(sample)}: this shard cannot be read: {error.strerror}. {advice}"
            return BadSample(self._split, sample, what)
        if len(encoded) == size > 0 and checksum(encoded) == expected:
            return encoded
        return BadSample(self._split, sample, self._what_is_wrong(shard, sample, os.fstat(file.descriptor).st_size))

    def _advise(self, shard: int, begin: int, end: int) -> None:
        if self._files.at_hand(shard):
            with suppress(OSError):  # whoever reads a sample of it is told
                self._open_file(shard).advise(begin, end)

    def _open_file(self, shard: int) -> ShardFile:
        """Return an open shard; where it is not open, it takes the place of the one longest unused."""
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
