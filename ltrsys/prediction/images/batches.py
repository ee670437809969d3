"""Images → batches of tensors, oriented, decoded and normalised as in evaluation; what cannot be read is told.

Every batch but the last has the same size, whatever is wrong with its images: a blank image stands in the place of one
that cannot be read. So what the network makes of an image does not depend on its neighbours. A batch of which no image
can be read is not decoded at all.
"""

import io
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ltrsys.data.config import DataConfig
from ltrsys.data.loading.augmentation import evaluation_augmentation
from ltrsys.data.loading.pipeline import DecodingError, ImagePipeline
from ltrsys.data.validation.images import ImageRejectedError, StoredImage, as_stored, check_image
from ltrsys.prediction.images.collections import Images, UnreadableError

READING_BATCHES = 2
"""Batches that are read while DALI and the network work on others."""
READS_OF_A_THREAD = 2
"""Parts of a batch that each thread reads: with more of them, a slow file keeps less of the others waiting."""


@dataclass(frozen=True)
class Decoded:
    """B images."""

    places: Sequence[int]
    """Of the images among all, [B]."""
    pixels: Tensor
    """float32 [B, 3, H, W], normalised, on the device."""
    problems: list[str | None]
    """Why an image cannot be read, [B]; its pixels then mean nothing."""


@dataclass(frozen=True)
class _Read:
    """A batch whose files have been read."""

    places: Sequence[int]
    images: list[StoredImage | str]
    """Each of them, or why it cannot be read."""

    @property
    def any_readable(self) -> bool:
        """Whether there is anything to decode."""
        return not all(isinstance(image, str) for image in self.images)


class BatchReader:
    """Reads, decodes and normalises images, some batches ahead of use."""

    def __init__(
        self,
        config: DataConfig,
        *,
        reduced_to: int | None,
        batch_size: int,
        device: torch.device,
        channels_last: bool = False,
    ) -> None:
        """Build the pipeline.

        Args:
            config: Image size, normalisation, threads, and where to decode.
            reduced_to: Pixels that the short side of longer images is reduced to before all else, as it was for shards.
            batch_size: Images of the largest batch.
            device: Where the batches are wanted.
            channels_last: Whether the images' memory format is torch's channels_last.

        Raises:
            UsageError: Where decoding on a GPU is asked for and `device` is none.
        """
        self.batch_size, self._device = batch_size, device
        self._config, self._reduced_to = config, reduced_to
        self._blank = _blank(config.image_size)
        self._pipeline = ImagePipeline(config, batch_size=batch_size, device=device, channels_last=channels_last)
        self._num_threads = len(os.sched_getaffinity(0))
        self._threads = ThreadPoolExecutor(self._num_threads, thread_name_prefix="read")
        self._in_work: deque[_Read] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what is in work and give up the threads."""
        self._threads.shutdown(cancel_futures=True)
        self._pipeline.close()

    def batches(self, images: Images, places: Sequence[int]) -> Iterator[Decoded]:
        """Yield the images at `places`, `batch_size` at a time, in their order."""
        self._in_work.clear()
        self._pipeline.drain()  # what an iterator left when it was abandoned
        waiting: deque[tuple[Sequence[int], list[Future[list[StoredImage | str]]]]] = deque()
        # A future for every image would cost as much as reading it.
        at_once = max(1, self.batch_size // (READS_OF_A_THREAD * self._num_threads))
        starts = iter(range(0, len(places), self.batch_size))
        ahead = self._config.prefetch + READING_BATCHES

        def read_ahead() -> None:
            while len(waiting) + len(self._in_work) < ahead and (start := next(starts, None)) is not None:
                part = places[start : start + self.batch_size]
                reads = [part[first : first + at_once] for first in range(0, len(part), at_once)]
                waiting.append((part, [self._threads.submit(self._read, images, some) for some in reads]))

        read_ahead()
        while waiting or self._in_work:
            while waiting and len(self._in_work) < self._config.prefetch:
                part, futures = waiting.popleft()
                self._feed(_Read(part, [image for future in futures for image in future.result()]))
                read_ahead()
            yield self._take()
            read_ahead()

    def _read(self, images: Images, places: Sequence[int]) -> list[StoredImage | str]:
        return [self._read_one(images, place) for place in places]

    def _read_one(self, images: Images, place: int) -> StoredImage | str:
        try:
            return as_stored(images.read(place), resize=self._reduced_to)
        except (UnreadableError, ImageRejectedError) as error:
            return str(error)

    def _feed(self, batch: _Read) -> None:
        self._in_work.append(batch)
        if not batch.any_readable:
            return
        stored = [self._blank if isinstance(image, str) else image for image in batch.images]
        width, height = (np.array([getattr(image, side) for image in stored]) for side in ("width", "height"))
        config = self._config
        augmentation = evaluation_augmentation(
            width,
            height,
            resize=config.resize,
            image_size=config.image_size,
            interpolation=config.interpolation,
        )
        self._pipeline.feed([image.jpeg for image in stored], augmentation)

    def _take(self) -> Decoded:
        """Wait for the oldest batch; where DALI cannot decode an image of it, without that."""
        while True:
            batch = self._in_work.popleft()
            if not batch.any_readable:  # of a list whose folder has moved all images are missing
                return self._blank_batch(batch)
            try:
                pixels = self._pipeline.take()
            except DecodingError as error:
                self._feed_without_damaged(batch, error)
            else:
                problems = [image if isinstance(image, str) else None for image in batch.images]
                return Decoded(batch.places, pixels, problems)

    def _blank_batch(self, batch: _Read) -> Decoded:
        side = self._config.image_size
        pixels = torch.zeros(len(batch.images), 3, side, side, device=self._device)
        return Decoded(batch.places, pixels, [str(image) for image in batch.images])

    def _feed_without_damaged(self, batch: _Read, error: DecodingError) -> None:
        """Feed a batch anew, and those in work after it, once what cannot be decoded in it is found."""
        self._pipeline.drain()
        later = list(self._in_work)
        self._in_work.clear()
        self._feed(replace(batch, images=self._without_damaged(batch.images, error)))
        for again in later:
            self._feed(again)

    def _without_damaged(self, images: list[StoredImage | str], error: DecodingError) -> list[StoredImage | str]:
        checked = [image if isinstance(image, str) else _checked(image) for image in images]
        if checked != images:
            return checked
        # Pillow reads all of them, DALI does not: each is tried alone.
        return [image if isinstance(image, str) or self._decodes(image) else _no_decoder(error) for image in images]

    def _decodes(self, image: StoredImage) -> bool:
        self._feed(_Read([0], [image]))
        self._in_work.pop()
        try:
            self._pipeline.take()
        except DecodingError:
            return False
        return True


def _checked(image: StoredImage) -> StoredImage | str:
    try:
        check_image(image.jpeg)
    except ImageRejectedError as error:
        return str(error)
    return image


def _no_decoder(error: DecodingError) -> str:
    return f"it cannot be decoded ({' '.join(str(error).split())[:200]})"


def _blank(side: int) -> StoredImage:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "grey").save(buffer, "JPEG")
    return StoredImage(buffer.getvalue(), side, side)
