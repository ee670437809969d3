"""A data source of one's own: stripes of ten widths.

ltrsys shards stripes --plugin examples/stripes_source.py --out data/stripes
"""

import io

import numpy as np
from PIL import Image

from ltrsys.data.index.records import ClassRecord
from ltrsys.data.sources.source import SOURCES, Items, Source, SourceKind, SourceOptions


def draw(item: str) -> bytes:
    """Return a PNG of the stripes that `item`, such as train/3/17, names."""
    _, width, number = item.split("/")
    phase = int(number) % 40 + np.arange(32)
    row = (phase // (int(width) + 1) % 2 * 200).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.tile(row, (32, 1))).convert("RGB").save(file, "png")
    return file.getvalue()


@SOURCES.register
class Stripes(SourceKind):
    """Stripes of ten widths."""

    name, summary, balanced = "stripes", "stripes of ten widths; needs no files", True

    @classmethod
    def read(cls, options: SourceOptions) -> Source:
        """Name the images of three splits."""
        labels = np.repeat(np.arange(10, dtype=np.int32), 40)
        names = [f"{label}/{number}" for number, label in enumerate(labels)]
        splits = {split: Items([f"{split}/{name}" for name in names], labels) for split in ("train", "val", "test")}
        return Source(cls.name, cls.name, [ClassRecord(name=f"width {width}") for width in range(1, 11)], splits, draw)
