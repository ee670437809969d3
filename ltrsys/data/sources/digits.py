"""scikit-learn's scanned digits: 1,797 images of 8 x 8 pixels, which need no download."""

import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltrsys.data.index.records import ClassRecord, SplitName
from ltrsys.data.sources.source import SOURCES, Items, Source, SourceKind, SourceOptions
from ltrsys.errors import UsageError
from ltrsys.random import Stream, permutation

VAL_PER_CLASS = 14
TEST_PER_CLASS = 40
SIDE = 32
"""The scans are enlarged to this, so that a network for small images has something to convolve."""


@dataclass(frozen=True)
class DigitsReader:
    """Draws a digit by the name `digits/NUMBER`."""

    @cached_property
    def _scans(self) -> NDArray[np.uint8]:
        return _load()[0]

    def __call__(self, item: str) -> bytes:
        """Return a PNG of `SIDE` x `SIDE` pixels."""
        scan = Image.fromarray(self._scans[int(item.removeprefix("digits/"))])
        buffer = io.BytesIO()
        scan.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, format="PNG")
        return buffer.getvalue()


def read_digits(*, seed: int, num_classes: int = 10) -> Source:
    """Split the digits: `VAL_PER_CLASS` and `TEST_PER_CLASS` images of each for val and test, the rest for train.

    Args:
        seed: Decides which image goes where.
        num_classes: The digits from 0 on that are taken.

    Raises:
        UsageError: Where there are not so many digits.
    """
    if num_classes > 10:
        raise UsageError(f"--num-classes {num_classes}: there are ten digits.")
    labels = _load()[1]
    order = permutation(len(labels), seed=seed, stream=Stream.LONG_TAIL, major=1)
    chosen: dict[SplitName, list[NDArray[np.int64]]] = {"train": [], "val": [], "test": []}
    for digit in range(num_classes):
        of_digit = order[labels[order] == digit]
        val, test, train = np.split(of_digit, [VAL_PER_CLASS, VAL_PER_CLASS + TEST_PER_CLASS])
        for split, places in zip(chosen, (train, val, test), strict=True):
            chosen[split].append(np.sort(places))
    splits = {split: _items(np.concatenate(places), labels) for split, places in chosen.items()}
    classes = [ClassRecord(name=str(digit)) for digit in range(num_classes)]
    return Source("digits", "digits", classes, splits, DigitsReader())


def _items(places: NDArray[np.int64], labels: NDArray[np.int32]) -> Items:
    return Items([f"digits/{place:04d}" for place in places], labels[places])


def _load() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    from sklearn.datasets import load_digits  # takes a second to import, and only this source needs it

    digits = load_digits()
    return (digits.images * 255 / 16).round().astype(np.uint8), digits.target.astype(np.int32)


@SOURCES.register
class Digits(SourceKind):
    """scikit-learn's digits."""

    name = "digits"
    summary = "scikit-learn's scanned digits, 8 x 8 pixels; needs no files"
    order = 40
    balanced = True

    @classmethod
    def read(cls, options: SourceOptions) -> Source:
        """Read them, split by the seed."""
        options.refuse_files(cls.name)
        num_classes = 10 if options.num_classes is None else options.num_classes
        return read_digits(seed=options.seed, num_classes=num_classes)
