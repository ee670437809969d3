"""A contact sheet: some training images of frequent, middling and rare classes, to look at what was built."""

import io
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.reading.reader import BadSample, ShardReader
from ltrsys.files import write_with
from ltrsys.reporting.style import SHOT_COLORS

CLASSES_OF_A_PART = 4
IMAGES_OF_A_CLASS = 6
TILE, GAP, NAMES, HEADING = 120, 6, 250, 44
"""Pixels: the side of an image, the space between images, the column of names, the line above each part."""
COLORS = {"head": SHOT_COLORS["many"], "middle": SHOT_COLORS["medium"], "tail": SHOT_COLORS["few"]}
BACKGROUND = (235, 235, 235)
DPI = 100


def draw_contact_sheet(dataset: Dataset, path: Path) -> None:
    """Draw the first training images of some classes as a PNG, each class with its name and count.

    Raises:
        DataError: Where there is no train split, or an image in it is damaged.
    """
    split = dataset.split("train")
    parts = classes_of_parts(split.class_counts)
    rows = sum(len(classes) for classes in parts.values())
    width = NAMES + IMAGES_OF_A_CLASS * (TILE + GAP) + GAP
    height = HEADING + len(parts) * HEADING + rows * (TILE + GAP) + GAP
    canvas = Image.new("RGB", (width, height), "white")
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)

    def write(text: str, x: float, y: float, size: float, color: str = "black", weight: str = "normal") -> None:
        """Put a text with its upper left corner at a pixel; a class's name may hold what is mathematics elsewhere."""
        place = (x / width, 1 - y / height)
        figure.text(
            *place, text, fontsize=size, color=color, weight=weight, va="top", parse_math=False, linespacing=1.3
        )

    write(f"{dataset.record.name}: {len(split):,} training images of {dataset.num_classes:,} classes", GAP + 4, 14, 12)
    reader = ShardReader(split)
    top = HEADING
    for part, classes in parts.items():
        write(part, GAP + 4, top + 16, 12, COLORS[part], "bold")
        top += HEADING
        for label in classes:
            name = textwrap.fill(textwrap.shorten(dataset.record.classes[label].name, 66, placeholder=" ..."), 30)
            images = int(split.class_counts[label])
            write(f"{name}\n{images:,} image{'s' if images != 1 else ''}", GAP + 4, top + 8, 10)
            for place, image in enumerate(_images(split, reader, label)):
                left = NAMES + place * (TILE + GAP) + GAP
                canvas.paste(_tile(image), (left, top))
            top += TILE + GAP
    reader.close()
    figure.figimage(np.asarray(canvas), zorder=-1)
    write_with(path, lambda beside: figure.savefig(beside, format="png", dpi=DPI))


def classes_of_parts(train_counts: NDArray[np.int64]) -> dict[str, list[int]]:
    """Return some classes of the head, the middle and the tail, most frequent first; none twice, and none empty.

    Args:
        train_counts: Training images of each class, [C].
    """
    order = np.argsort(-train_counts, kind="stable")
    order = order[train_counts[order] > 0]
    each = min(CLASSES_OF_A_PART, max(1, len(order) // 3))
    head, rest = order[:each], order[each:]
    tail = rest[max(0, len(rest) - each) :]
    between = rest[: len(rest) - len(tail)]
    start = max(0, (len(between) - each) // 2)
    parts = {"head": head, "middle": between[start : start + each], "tail": tail}
    return {part: classes.tolist() for part, classes in parts.items() if len(classes)}


def _images(split: Split, reader: ShardReader, label: int) -> list[Image.Image]:
    samples = np.flatnonzero(split.label == label)[:IMAGES_OF_A_CLASS]
    images: list[Image.Image] = []
    for content in reader.read(samples):
        if isinstance(content, BadSample):
            raise content
        images.append(Image.open(io.BytesIO(content)))
    return images


def _tile(image: Image.Image) -> Image.Image:
    """Fit an image into a square; what is smaller is enlarged."""
    scale = TILE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    tile = Image.new("RGB", (TILE, TILE), BACKGROUND)
    resized = image.convert("RGB").resize((size[0], size[1]), Image.Resampling.LANCZOS)
    tile.paste(resized, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile
