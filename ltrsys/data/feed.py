"""Keeps a few batches in work: reads ahead, feeds DALI, hands out what is ready."""

import time
from collections import deque
from collections.abc import Generator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.config import DataConfig
from ltrsys.data.augmentation import Augmentation
from ltrsys.data.diagnosis import undecodable
from ltrsys.data.index import Split
from ltrsys.data.pipeline import DecodingError, ImagePipeline
from ltrsys.data.reader import ShardReader

BLOCK_BYTES = 64 * 2**20
"""The kernel is asked for about this much at once, so that neighbours are read together."""

Batches = Generator[tuple[Tensor, NDArray[np.int64]], None, None]


class Work(Protocol):
    """A sequence of batches to be made, any of them known at any time."""

    def __len__(self) -> int:
        """Return the number of batches."""

    def samples(self, batch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the batch's sample ids and the numbers of the stretches they are read from, [B] each."""

    def augmentation(self, batch: int, samples: NDArray[np.int64]) -> Augmentation:
        """Return what is done to the images of the batch."""


class Feed:
    """Reader and pipeline, `config.prefetch` batches ahead of use; DALI's threads work on them meanwhile."""

    def __init__(
        self,
        split: Split,
        config: DataConfig,
        *,
        batch_size: int,
        device: torch.device,
        colour: bool = False,
        channels_last: bool = False,
    ) -> None:
        """Build the graph; shards are opened when they are needed.

        Raises:
            UsageError: Where decoding on a GPU is asked for and `device` is none.
        """
        self.stall_seconds = 0.0
        self.reader = ShardReader(split)
        self._split, self._prefetch = split, config.prefetch
        self._pipeline = ImagePipeline(
            config, batch_size=batch_size, device=device, colour=colour, channels_last=channels_last
        )
        mean_bytes = sum(shard.bytes for shard in split.record.shards) / len(split)
        self._block = max(1, int(BLOCK_BYTES / (mean_bytes * batch_size)))
        self._running: Batches | None = None

    def batches(self, work: Work) -> Batches:
        """Yield images, float32 [B, 3, H, W] on the device, and their sample ids, [B].

        What an earlier call still had in work is dropped, and its iterator ends.

        Raises:
            DataError: Where a shard or an image in it is damaged; it names the sample.
        """
        self._stop()
        self._running = self._batches(work)
        return self._running

    def close(self) -> None:
        """Drop what is in work and give up threads, memory and files."""
        self._stop()
        self._pipeline.close()
        self.reader.close()

    def _stop(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None

    def _batches(self, work: Work) -> Batches:
        asked = time.perf_counter()
        self._pipeline.drain()  # what the last iterator left when it was abandoned
        self.reader.begin_pass()
        in_work: deque[NDArray[np.int64]] = deque()
        fed = 0
        for batch in range(len(work)):
            while fed < min(batch + self._prefetch, len(work)):
                in_work.append(self._feed(work, fed))
                fed += 1
            samples = in_work.popleft()
            images = self._take(samples)
            if fed < len(work):
                in_work.append(self._feed(work, fed))
                fed += 1
            self.stall_seconds += time.perf_counter() - asked
            yield images, samples
            asked = time.perf_counter()

    def _feed(self, work: Work, batch: int) -> NDArray[np.int64]:
        if batch == 0:
            self._announce(work, 0)
        if batch % self._block == 0:
            self._announce(work, batch + self._block)
        samples, _ = work.samples(batch)
        self._pipeline.feed(self.reader.read(samples), work.augmentation(batch, samples))
        return samples

    def _announce(self, work: Work, first: int) -> None:
        block = [work.samples(batch) for batch in range(first, min(first + self._block, len(work)))]
        if block:
            samples, stretches = (np.concatenate(parts) for parts in zip(*block, strict=True))
            self.reader.announce(samples, stretches)

    def _take(self, samples: NDArray[np.int64]) -> Tensor:
        try:
            return self._pipeline.take()
        except DecodingError as error:
            raise undecodable(self._split, samples, error.encoded, str(error)) from error
