"""Small pictures of images in shards, as data URIs; bounded, so that a page of many classes stays small."""

import base64
import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.index.records import SplitName
from ltrsys.data.reading.reader import BadSample, ShardReader

SIDE = 96
"""Pixels of the longer side."""
QUALITY = 70
MOST_BYTES = 3_000_000
"""Of all pictures of a page, as they stand in it."""


@dataclass
class Thumbnails:
    """The pictures of a page, each in it once."""

    wanted: bool = True
    most_bytes: int = MOST_BYTES
    """What they may take; the pictures that no longer fit are left out."""
    uris: list[str] = field(default_factory=list)
    """`data:image/webp;base64,...`; others name a picture by its place here."""
    _places: dict[tuple[str, SplitName, int], int | None] = field(default_factory=dict)
    _readers: dict[tuple[str, SplitName], tuple[Split, ShardReader]] = field(default_factory=dict)

    def of(self, dataset: Dataset, split: SplitName, sample: int) -> int | None:
        """Return the place of an image's picture; None where it is damaged, not here, does not fit, or none are wanted.

        Raises:
            DataError: Where a remote shard does not come.
        """
        if not (self.wanted and dataset.has_images):
            return None
        key = (dataset.fingerprint, split, sample)
        if key not in self._places:
            self._places[key] = self._add(dataset, split, sample)
        return self._places[key]

    def close(self) -> None:
        """Give up the shards."""
        for _, reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _add(self, dataset: Dataset, split: SplitName, sample: int) -> int | None:
        if (dataset.fingerprint, split) not in self._readers:
            opened = dataset.split(split)
            self._readers[dataset.fingerprint, split] = opened, ShardReader(opened)
        _, reader = self._readers[dataset.fingerprint, split]
        (content,) = reader.read(np.array([sample]))
        uri = None if isinstance(content, BadSample) else _uri(content)
        if uri is None or sum(map(len, self.uris)) + len(uri) > self.most_bytes:
            return None
        self.uris.append(uri)
        return len(self.uris) - 1


def _uri(encoded: bytes) -> str | None:
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.draft("RGB", (SIDE, SIDE))  # a JPEG is decoded at an eighth of its size, if that is enough
            small = image.convert("RGB")
    except (OSError, ValueError):
        return None
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
