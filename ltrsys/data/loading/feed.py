"""Keeps a few batches in work: reads ahead, feeds DALI, hands out what is ready."""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.data.config import DataConfig
from ltrsys.data.index.dataset import Split
from ltrsys.data.loading.augmentation import Augmentation
from ltrsys.data.loading.diagnosis import undecodable
from ltrsys.data.loading.pipeline import DecodingError, ImagePipeline
from ltrsys.data.loading.stall import StallClock
from ltrsys.data.reading.quarantine import Quarantine
from ltrsys.data.reading.reader import BadSample, ShardReader
from ltrsys.data.reading.shard_files import Encoded
from ltrsys.errors import DataError, LtrsysError

IMAGES_OF_A_BURST = 256
"""Images that are handed to DALI one batch after the other, where so many have been read: alone, a batch of 64 finds
the processor's caches full of what DALI's threads do, and costs two fifths more."""

Batches = Generator[tuple[Tensor, NDArray[np.int64]], None, None]


class Work(Protocol):
    """A sequence of batches to be made, any of them known at any time."""

    def __len__(self) -> int:
        """Return the number of batches."""

    def samples(self, batch: int) -> NDArray[np.int64]:
        """Return the batch's sample ids, [B]."""

    def augmentation(self, batch: int, samples: NDArray[np.int64]) -> Augmentation:
        """Return what is done to the images of the batch."""

    def replacements(self, batch: int, place: int, sample: int) -> Iterator[int]:
        """Yield the samples that are tried, in this order, where the batch's sample at `place` is bad."""


@dataclass(frozen=True)
class _EncodedBatch:
    """A batch whose images have been read."""

    number: int
    samples: NDArray[np.int64]
    encoded: list[Encoded]


class Feed:
    """Reader and pipeline, `config.prefetch` batches ahead of use; DALI's threads work on them meanwhile."""

    def __init__(
        self,
        split: Split,
        config: DataConfig,
        *,
        batch_size: int,
        device: torch.device,
        training: bool = False,
        channels_last: bool = False,
        quarantine: Quarantine | None = None,
        look_ahead: int = 0,
    ) -> None:
        """Build the graph; shards are opened when they are needed.

        Args:
            split: The images.
            config: Where and how to decode, and how far ahead of use.
            batch_size: Images of the largest batch.
            device: Where the batches are wanted.
            training: Whether batches come with all that `config.augmentation` asks for, in sizes by epoch.
            channels_last: Whether the images' memory format is torch's channels_last.
            quarantine: Where bad samples go; without one, the first of them ends the iteration.
            look_ahead: Batches that are read, but not decoded yet, before they are asked for: what is wrong with
                them is known as early in `failure`.

        Raises:
            UsageError: Where decoding on a GPU is asked for and `device` is none.
        """
        self.stall = StallClock(device)
        self.failure: LtrsysError | None = None
        """Why reading ahead has stopped; the iterator raises it when it gets there."""
        self.reader = ShardReader(split)
        self._quarantine, self._look_ahead = quarantine, look_ahead
        self._read_until = 0
        self._waiting: deque[_EncodedBatch] = deque()
        self._in_work: deque[_EncodedBatch] = deque()
        self._split, self._prefetch = split, config.prefetch
        self._pipeline = ImagePipeline(
            config, batch_size=batch_size, device=device, training=training, channels_last=channels_last
        )
        mean_bytes = sum(shard.bytes for shard in split.record.shards) / len(split)
        self._block = max(1, int(self.reader.block_bytes / (mean_bytes * batch_size)))
        self._burst = max(1, IMAGES_OF_A_BURST // batch_size)
        self._running: Batches | None = None

    def batches(self, work: Work) -> Batches:
        """Read ahead, then yield images, [B, 3, H, W] on the device, and their sample ids, [B].

        What an earlier call still had in work is dropped, and its iterator ends.

        Raises:
            DataError: By the iterator, where a shard or an image in it is damaged; it names the sample.
        """
        self.stall.begin()
        self._stop()
        self._pipeline.drain()  # what the last iterator left when it was abandoned
        self.reader.begin_pass()
        self.failure = None
        self._read_until = 0
        self._prepare(work, self._prefetch)
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
        self._waiting.clear()
        self._in_work.clear()

    def _batches(self, work: Work) -> Batches:
        for batch in range(len(work)):
            self._prepare(work, batch + self._prefetch)
            if not self._in_work:
                assert self.failure is not None
                raise self.failure
            images, samples = self._take_decoded(work)
            self._prepare(work, batch + 1 + self._prefetch)
            self.stall.end()
            yield images, samples
            self.stall.begin()

    def _prepare(self, work: Work, stop: int) -> None:
        """Have the batches before `stop` in DALI's hands, and those of the look-ahead after them read.

        Where one is missing there, it comes with those of its burst that have been read.
        """
        while self.failure is None and self._read_until < min(stop + self._look_ahead, len(work)):
            try:
                self._waiting.append(self._read_batch(work, self._read_until))
            except LtrsysError as error:
                self.failure = error
            self._read_until += 1
        if self._waiting and self._waiting[0].number < stop:
            while self._waiting and self._waiting[0].number < stop + self._burst - 1:
                self._feed(work, self._waiting.popleft())

    def _read_batch(self, work: Work, batch: int) -> _EncodedBatch:
        """Read the images of a batch; where there is a quarantine, others of their class replace the bad samples."""
        if batch == 0:
            self._announce(work, 0)
        if batch % self._block == 0:
            self._announce(work, batch + self._block)
        samples = work.samples(batch).copy()
        places = self._places_not_in_quarantine(samples)
        images: dict[int, Encoded] = {}
        for place, image in zip(places.tolist(), self.reader.read(samples[places]), strict=True):
            if isinstance(image, BadSample):
                self._quarantine_or_raise(image)
            else:
                images[place] = image
        for place in sorted(set(range(len(samples))) - images.keys()):
            samples[place], images[place] = self._replacement(work, batch, place, int(samples[place]))
        return _EncodedBatch(batch, samples, [images[place] for place in range(len(samples))])

    def _places_not_in_quarantine(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        places = np.arange(len(samples))
        if not self._quarantine:  # there is none, or nothing is in it
            return places
        return places[[sample not in self._quarantine for sample in samples.tolist()]]

    def _quarantine_or_raise(self, bad: BadSample) -> None:
        if self._quarantine is None:
            raise bad
        self._quarantine.add(bad)

    def _replacement(self, work: Work, batch: int, place: int, sample: int) -> tuple[int, Encoded]:
        """Return the first candidate to replace a bad sample that is not bad too, and its image."""
        assert self._quarantine is not None
        for candidate in work.replacements(batch, place, sample):
            if candidate in self._quarantine:
                continue
            (image,) = self.reader.read(np.array([candidate]))
            if not isinstance(image, BadSample):
                return candidate, image
            self._quarantine.add(image)
        raise DataError(
            f"{self._split.describe(sample)}: this sample is bad, and no other of its class "
            f"{int(self._split.label[sample])} is left to replace it. Copy the shards there again, or build them again."
        )

    def _feed(self, work: Work, batch: _EncodedBatch) -> None:
        self._pipeline.feed(batch.encoded, work.augmentation(batch.number, batch.samples))
        self._in_work.append(batch)

    def _announce(self, work: Work, first: int) -> None:
        block = [work.samples(batch) for batch in range(first, min(first + self._block, len(work)))]
        if block:
            self.reader.announce(np.concatenate(block))

    def _take_decoded(self, work: Work) -> tuple[Tensor, NDArray[np.int64]]:
        """Wait for the oldest batch that DALI works on; feed it anew where DALI cannot decode an image of it."""
        while True:
            batch = self._in_work.popleft()
            try:
                return self._pipeline.take(), batch.samples
            except DecodingError as error:
                bad = undecodable(self._split, batch.samples, batch.encoded, str(error))
                if self._quarantine is None:
                    raise bad[0] from error
                for sample in bad:
                    self._quarantine.add(sample)
                self._refeed(work, batch)

    def _refeed(self, work: Work, batch: _EncodedBatch) -> None:
        """Feed a batch anew before those that are in work after it, all without what is in quarantine now."""
        self._pipeline.drain()
        later = list(self._in_work)
        self._in_work.clear()
        for again in (batch, *later):
            self._feed(work, self._read_batch(work, again.number))
