"""Which bytes of the shards are read for samples, and the read amplification: bytes read over bytes used."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.dataset import Split

READ_THROUGH_BYTES = 4096
"""A gap up to this long between two samples is read with them: a page, and more than the tar headers of neighbours."""


class Ranges(NamedTuple):
    """Byte ranges of shards, each array int64 [ranges]."""

    shard: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]

    @property
    def total_bytes(self) -> int:
        """Length of all ranges together."""
        return int((self.end - self.begin).sum())


def ranges_of(split: Split, samples: NDArray[np.int64]) -> Ranges:
    """Return what is read for samples, in the order of the shards.

    Samples with a gap of up to `READ_THROUGH_BYTES` between them are one range. One that is named twice is read once.

    Args:
        split: The images.
        samples: Sample ids, [S], in any order.
    """
    samples = np.unique(samples)
    samples = samples[np.argsort(split.shard[samples], kind="stable")]  # appended shards lie elsewhere than their ids
    shard = split.shard[samples].astype(np.int64)
    begin = split.offset[samples].astype(np.int64)
    end = begin + split.size[samples]
    begins_range = np.ones(len(samples), dtype=bool)
    begins_range[1:] = (np.diff(shard) != 0) | (begin[1:] - end[:-1] > READ_THROUGH_BYTES)
    first = np.flatnonzero(begins_range)
    last = np.append(first[1:], len(samples))[: len(first)] - 1
    return Ranges(shard[first], begin[first], end[last])


class ReadAmplification:
    """Counts how much more is read than the images have that are used.

    Neither `posix_fadvise` nor the kernel's own read-ahead, which is switched off, touches other bytes than those of
    the ranges.
    """

    def __init__(self, split: Split) -> None:
        self._split = split
        self.bytes_used = 0
        """Size of the encoded images; of one that is used twice, twice."""
        self.bytes_read = 0
        """Length of the ranges: with gaps, and of an image that is used twice at once, once."""
        self.requests = 0
        """Number of the ranges."""

    def add(self, samples: NDArray[np.int64], ranges: Ranges) -> None:
        """Count samples, [S], and what is read for them."""
        self.bytes_used += int(self._split.size[samples].sum(dtype=np.int64))
        self.bytes_read += ranges.total_bytes
        self.requests += len(ranges.shard)
