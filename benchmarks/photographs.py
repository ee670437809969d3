"""Photographs to measure with: parts of scikit-learn's two, each made different by smooth noise."""

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from ltrsys.data.index.records import ClassRecord
from ltrsys.data.sources.source import Items, Source

QUALITY = 80


@dataclass(frozen=True)
class PhotographReader:
    """Makes the JPEG of an item, whose name is its number."""

    short_side: int

    def __call__(self, item: str) -> bytes:
        """Return a JPEG of about 27 kB for a short side of 300 pixels; the same for the same number."""
        return photograph(int(item), self.short_side)


def photograph(number: int, short_side: int) -> bytes:
    """Return photograph `number`, a landscape or portrait of 3:2 to 1:1, as JPEG."""
    random = np.random.default_rng(number)
    original = _originals()[number % 2]
    width, height = short_side, round(short_side * random.uniform(1, 1.5))
    if random.random() < 0.7:
        width, height = height, width
    scale = random.uniform(0.5, 1) * min(original.width / width, original.height / height)
    left = random.uniform(0, original.width - scale * width)
    top = random.uniform(0, original.height - scale * height)
    part = original.resize(
        (width, height), Image.Resampling.BICUBIC, box=(left, top, left + scale * width, top + scale * height)
    )
    clouds = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    pixels = 0.8 * np.asarray(part, dtype=np.float32) + 0.2 * np.asarray(clouds, dtype=np.float32)
    pixels += random.normal(0, 6, pixels.shape)
    encoded = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(encoded, "JPEG", quality=QUALITY)
    return encoded.getvalue()


def photograph_source(train_counts: NDArray[np.int64], short_side: int = 300) -> Source:
    """Return a training split with these class counts."""
    labels = np.repeat(np.arange(len(train_counts), dtype=np.int32), train_counts)
    return Source(
        kind="photographs",
        name="photographs",
        classes=[ClassRecord(name=str(label)) for label in range(len(train_counts))],
        splits={"train": Items([str(number) for number in range(len(labels))], labels)},
        read=PhotographReader(short_side),
    )


@cache
def _originals() -> list[Image.Image]:
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]
