"""Small pictures of the images in the shards that a run was trained on."""

import io
import logging
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np
from PIL import Image

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SPLITS, SplitName
from ltrsys.data.reading.reader import BadSample, ShardReader
from ltrsys.errors import DataError
from ltrsys.features.bank import FeatureBank
from ltrsys.prediction.loading import LoadedModel

log = logging.getLogger("ltrsys")

SIDE = 160
"""Pixels of the longer side."""
CACHED = 4096
"""Thumbnails that are kept: some 20 MB."""
OPEN_SHARDS = 32
QUALITY = 85


class Thumbnails:
    """Thumbnails of a dataset. Any thread may ask."""

    def __init__(self, dataset: Dataset) -> None:
        """Open all splits of the dataset."""
        self._splits = {name: dataset.split(name) for name in SPLITS if dataset.has(name)}
        self._readers = {name: ShardReader(split, max_open_shards=OPEN_SHARDS) for name, split in self._splits.items()}
        self._lock = Lock()
        self._made = lru_cache(CACHED)(self._make)

    @classmethod
    def of(cls, model: LoadedModel) -> Self | None:
        """Open the shards that a run was trained on; None where they are not on this machine, or others by now."""
        shards, folder = model.config.data.shards, model.run.features
        if not isinstance(shards, Path) or not (shards / "dataset.json").exists() or not folder.exists():
            return None
        try:
            dataset = Dataset.open(shards)
            if dataset.fingerprint == FeatureBank.open(folder).identity.dataset:
                return cls(dataset)
            log.warning("%s: these are not the shards that the features are of: there will be no thumbnails.", shards)
        except DataError as error:
            log.warning("There will be no thumbnails: %s", error)
        return None

    def has(self, split: SplitName, sample: int) -> bool:
        """Whether there is such an image."""
        return split in self._splits and 0 <= sample < len(self._splits[split])

    def read(self, split: SplitName, sample: int) -> bytes:
        """Return the thumbnail of an image that there is, a JPEG.

        Raises:
            DataError: Where its shard is missing or damaged.
        """
        return self._made(split, sample)

    def _make(self, split: SplitName, sample: int) -> bytes:
        with self._lock:
            (found,) = self._readers[split].read(np.array([sample]))
        if isinstance(found, BadSample):
            raise found
        image = Image.open(io.BytesIO(found), formats=["JPEG"])
        image.draft("RGB", (SIDE, SIDE))
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()
