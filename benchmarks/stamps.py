"""A long-tailed set of photographs: cut-outs of animals, plants and things, laid on textures.

Debian's package `tuxpaint-stamps-default` has the cut-outs; each is a class. `python -m benchmarks.stamps OUT` writes
OUT/train, OUT/val and OUT/test, a folder a class, for `ltrsys shards folder`.
"""

import argparse
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageEnhance, ImageFilter

STAMPS = Path("/usr/share/tuxpaint/stamps")
LEFT_OUT = ("cartoon", "symbols", "/us/", "mirror")
"""Parts of paths of what is drawn, and no photograph."""

TEXTURES = ("brick", "grass", "gravel")
SIDE = 256
MOST, LEAST = 100, 2
VAL_PER_CLASS, TEST_PER_CLASS = 5, 12
SMALLEST = 96
"""Pixels of the shorter side of a cut-out that is taken."""


def cut_outs(most: int) -> list[Path]:
    """Return the cut-outs that are taken, in an order that has nothing to do with their names."""
    paths = [path for path in sorted(STAMPS.rglob("*.png")) if not any(part in str(path) for part in LEFT_OUT)]
    taken = [path for path in paths if _is_cut_out(path)]
    order = np.random.default_rng(0).permutation(len(taken))
    return [taken[place] for place in order[:most]]


def _is_cut_out(path: Path) -> bool:
    with Image.open(path) as image:
        if min(image.size) < SMALLEST or image.mode != "RGBA":
            return False
        pixels = np.asarray(image)
    inside = pixels[..., 3] > 200
    # drawings have few colours
    return bool(inside.mean() > 0.1) and len(np.unique(pixels[inside][:, :3] // 8, axis=0)) > 400


def train_counts(classes: int) -> list[int]:
    """Return exponentially falling numbers of training images."""
    return np.rint(np.geomspace(MOST, LEAST, classes)).astype(int).tolist()


def composed(cut_out: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Lay a cut-out on a texture: turned, scaled, lit, partly hidden and blurred at random."""
    background = _texture(generator)
    share = generator.uniform(0.3, 0.8)
    scale = share * SIDE / max(cut_out.size)
    size = tuple(max(8, round(scale * side * generator.uniform(0.8, 1.25))) for side in cut_out.size)
    stamp = cut_out.resize((size[0], size[1])).rotate(
        generator.uniform(-70, 70), expand=True, resample=Image.Resampling.BICUBIC
    )
    if generator.random() < 0.5:
        stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    place = [int(generator.uniform(-0.2 * side, SIDE - 0.8 * side)) for side in stamp.size]
    background.paste(stamp, (place[0], place[1]), stamp)
    left, top = (int(value) for value in generator.uniform(0, 0.7 * SIDE, 2))
    hidden = (left, top, left + int(generator.uniform(0, 0.35 * SIDE)), top + int(generator.uniform(0, 0.35 * SIDE)))
    background.paste(_texture(generator).crop(hidden), hidden[:2])
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        background = change(background).enhance(generator.uniform(0.5, 1.5))
    return background.filter(ImageFilter.GaussianBlur(generator.uniform(0, 2)))


def _texture(generator: np.random.Generator) -> Image.Image:
    grey = getattr(skimage.data, TEXTURES[generator.integers(len(TEXTURES))])()
    top, left = generator.integers(0, 512 - SIDE, 2)
    tint = generator.uniform(0.3, 1, 3)
    pixels = grey[top : top + SIDE, left : left + SIDE, None] * tint
    return Image.fromarray(pixels.astype(np.uint8))


def write(out: Path, most_classes: int) -> None:
    """Write the three splits."""
    paths = cut_outs(most_classes)
    for number, (path, train) in enumerate(zip(paths, train_counts(len(paths)), strict=True)):
        with Image.open(path) as image:
            cut_out = image.convert("RGBA")
        for place, (split, images) in enumerate((("train", train), ("val", VAL_PER_CLASS), ("test", TEST_PER_CLASS))):
            generator = np.random.default_rng([number, place])
            folder = out / split / f"{number:03d}_{path.stem}"
            folder.mkdir(parents=True, exist_ok=True)
            for image_number in range(images):
                composed(cut_out, generator).save(folder / f"{image_number:04d}.jpg", quality=90)
    print(f"{out}: {len(paths)} classes, {sum(train_counts(len(paths))):,} training images.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--most-classes", type=int, default=200)
    arguments = parser.parse_args()
    write(arguments.out, arguments.most_classes)
