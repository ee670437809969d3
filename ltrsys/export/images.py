"""The images that an export is tried on: some of the run's shards, or noise where there are none.

N images, B of a batch, C classes, S their side in pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.data.config import DataConfig
from ltrsys.data.index.dataset import Split
from ltrsys.errors import DataError
from ltrsys.models.signature import Preprocessing
from ltrsys.prediction.images.batches import BatchReader
from ltrsys.prediction.images.collections import Samples
from ltrsys.random import Stream, permutation, words

BATCH = 32
"""Images that go through the network at once."""
CPU = torch.device("cpu")

Batch = tuple[Tensor, NDArray[np.int64]]
"""Normalised images, float32 [B, 3, S, S], and their classes, int64 [B]."""


@dataclass(frozen=True)
class ShardImages:
    """Images of a split, as evaluation sees them."""

    split: Split
    places: NDArray[np.int64]
    config: DataConfig
    reduced_to: int | None

    @classmethod
    def choose(
        cls, split: Split, number: int, config: DataConfig, preprocessing: Preprocessing, *, seed: int
    ) -> "ShardImages":
        """Choose up to so many, as many of each class as there can be."""
        return cls(split, spread_over_classes(split.label, number, seed=seed), config, preprocessing.reduced_to)

    def __str__(self) -> str:
        """Say how many of what."""
        return f"{len(self.places):,} images of {self.split.name}"

    def batches(self) -> Iterator[Batch]:
        """Yield them, without those that cannot be read.

        Raises:
            DataError: Where none can.
        """
        config = self.config.model_copy(update={"decode": "auto"})  # whatever the training did: this is a CPU
        found = 0
        with BatchReader(config, reduced_to=self.reduced_to, batch_size=BATCH, device=CPU) as reader:
            for decoded in reader.batches(Samples(self.split), self.places.tolist()):
                readable = [row for row, problem in enumerate(decoded.problems) if problem is None]
                found += len(readable)
                labels = np.asarray(self.split.label[list(decoded.places)], dtype=np.int64)
                yield decoded.pixels[readable].clone(), labels[readable]
        if not found:
            raise DataError(f"{self.split.folder}: none of {self} can be read. Look with `ltrsys inspect --verify`.")


@dataclass(frozen=True)
class Noise:
    """Random pixels: they tell whether two networks compute the same, and nothing of accuracy."""

    number: int
    preprocessing: Preprocessing

    def __str__(self) -> str:
        """Say how many of what."""
        return f"{self.number} images of noise"

    def batches(self) -> Iterator[Batch]:
        """Yield them, the same each time; their classes mean nothing."""
        side = self.preprocessing.image_size
        for first in range(0, self.number, BATCH):
            count = min(BATCH, self.number - first)
            raw = words(count * 3 * side**2 // 8 + 1, seed=0, stream=Stream.EXPORT, major=1, minor=first)
            pixels = torch.from_numpy(raw.view(np.uint8)[: count * 3 * side**2].reshape(count, 3, side, side))
            yield normalised(pixels, self.preprocessing), np.zeros(count, np.int64)


TrialImages = ShardImages | Noise


def spread_over_classes(labels_N: NDArray[np.integer], number: int, *, seed: int) -> NDArray[np.int64]:
    """Return the places of up to `number` samples, ascending: one of each class, then a second of each, and so on."""
    order_N = permutation(len(labels_N), seed=seed, stream=Stream.EXPORT)
    shuffled_N = np.asarray(labels_N)[order_N]
    by_class_N = np.argsort(shuffled_N, kind="stable")
    firsts = np.flatnonzero(np.diff(shuffled_N[by_class_N], prepend=-1))
    turn_N = np.empty(len(labels_N), np.int64)
    turn_N[by_class_N] = np.arange(len(labels_N)) - np.repeat(firsts, np.diff(firsts, append=len(labels_N)))
    return np.sort(order_N[np.argsort(turn_N, kind="stable")[:number]])


def normalised(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return float32 [B, 3, S, S] of uint8 pixels, normalised."""
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return (pixels.float() - mean) / std


def as_bytes(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return the uint8 pixels that normalised images were made of."""
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return (images * std + mean).round().clamp(0, 255).to(torch.uint8)
