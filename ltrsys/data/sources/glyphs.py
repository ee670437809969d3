"""Letters drawn with the font files that matplotlib ships: a long-tailed dataset that needs no download.

A class is a letter. Its faces (font files) are dealt to the splits, so that the letters of val and test are drawn
with faces that training has not seen for that letter, and memorising does not help. An image is named
`U+0041/DejaVuSans-Bold.ttf/17`, and its name and the seed decide every pixel.
"""

import io
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ltrsys.data.index.records import ClassRecord, SplitName
from ltrsys.data.sources.source import SOURCES, Items, Source, SourceKind, SourceOptions
from ltrsys.errors import UsageError
from ltrsys.random import Stream, permutation, uniforms

MIN_FACES = 12
"""A letter is a class if so many faces have it."""
VAL_FACES, TEST_FACES = 2, 4
"""Faces of a letter kept for val and for test."""
VAL_PER_CLASS, TEST_PER_CLASS = 10, 20
SIDE = 32
"""Images are this wide and high, in pixels."""

_NOT_TEXT = frozenset({"LastResortHE-Regular.ttf", "cmex10.ttf", "cmsy10.ttf"})
"""Faces that draw something else than the letter."""
_SCALE = 4
"""A glyph is drawn so much larger before it is turned, so that the turn costs no sharpness."""
_MAX_TURN, _MAX_SHEAR, _MAX_SHIFT = 0.17, 0.15, 2.5
"""Radians; pixels sideways per pixel upwards; pixels of the result."""
_MIN_ZOOM, _MAX_ZOOM = 0.75, 1.1
_NOISE = 0.12
"""Standard deviation of the noise, of a range of 0 to 1."""


@dataclass(frozen=True)
class GlyphReader:
    """Draws the image with a given name."""

    seed: int
    side: int = SIDE

    def __call__(self, item: str) -> bytes:
        """Return a PNG of `side` x `side` grey pixels."""
        letter, face, variation = item.split("/")
        code_point = int(letter.removeprefix("U+"), 16)
        address = (_faces().index(face) << 32) + int(variation)
        draws = uniforms(7 + 3 * self.side**2, seed=self.seed, stream=Stream.GLYPHS, major=code_point, minor=address)
        pixels = _turned(_mask(chr(code_point), face, self.side), draws[:5], self.side)
        ink, paper = 0.35 * draws[5], 1.0 - 0.35 * draws[6]
        # The sum of three uniform numbers is bell-shaped, and made without a transcendental function, whose last
        # bit differs between machines.
        noise = draws[7:].reshape(3, self.side, self.side).sum(axis=0) * 2 - 3
        grey = paper + (ink - paper) * pixels + _NOISE * noise
        buffer = io.BytesIO()
        Image.fromarray(np.rint(grey.clip(0, 1) * 255).astype(np.uint8)).save(buffer, format="PNG")
        return buffer.getvalue()


def read_glyphs(*, num_classes: int, seed: int, train_per_class: int = 400, side: int = SIDE) -> Source:
    """List the images of `num_classes` letters: as many for each class, `train_per_class` of them for training.

    They are chosen at random, but once and for all: more classes add letters. Of letters that look the same (Latin A,
    Greek Alpha) only one is a class.

    Raises:
        UsageError: Where there are not so many letters.
    """
    letters = _letters()
    if num_classes > len(letters):
        raise UsageError(f"--num-classes {num_classes}: matplotlib's fonts have {len(letters)} letters to draw.")
    chosen = sorted(letters[:num_classes])
    per_class: dict[SplitName, int] = {"train": train_per_class, "val": VAL_PER_CLASS, "test": TEST_PER_CLASS}
    names: dict[SplitName, list[str]] = {split: [] for split in per_class}
    for code_point in chosen:
        for split, faces in _deal_faces(code_point, seed).items():
            names[split] += [
                f"U+{code_point:04X}/{faces[place % len(faces)]}/{place}" for place in range(per_class[split])
            ]
    splits = {
        split: Items(names[split], np.repeat(np.arange(num_classes, dtype=np.int32), count))
        for split, count in per_class.items()
    }
    classes = [
        ClassRecord(
            name=chr(code_point),
            supercategory=unicodedata.name(chr(code_point)).split()[0].lower(),
            source_id=f"U+{code_point:04X}",
        )
        for code_point in chosen
    ]
    return Source("glyphs", "glyphs", classes, splits, GlyphReader(seed, side))


def _deal_faces(code_point: int, seed: int) -> dict[SplitName, list[str]]:
    faces = _faces_of_letter()[code_point]
    order = permutation(len(faces), seed=seed, stream=Stream.GLYPHS, major=code_point, minor=2**63)
    shuffled = [faces[place] for place in order]
    held_out = VAL_FACES + TEST_FACES
    return {"train": shuffled[held_out:], "val": shuffled[:VAL_FACES], "test": shuffled[VAL_FACES:held_out]}


@cache
def _font_folder() -> Path:
    import matplotlib  # slow to import, and only this source needs it

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@cache
def _faces() -> list[str]:
    return sorted(path.name for path in _font_folder().glob("*.ttf") if path.name not in _NOT_TEXT)


@cache
def _faces_of_letter() -> dict[int, list[str]]:
    from matplotlib.ft2font import FT2Font

    faces = defaultdict(list)
    for face in _faces():
        for code_point in FT2Font(str(_font_folder() / face)).get_charmap():
            if unicodedata.category(chr(code_point)) in ("Lu", "Ll", "Lt", "Lo"):
                faces[code_point].append(face)
    return {code_point: names for code_point, names in faces.items() if len(names) >= MIN_FACES}


@cache
def _letters() -> list[int]:
    """The letters that can be told apart, in the order in which they become classes."""
    look = {_mask(chr(code_point), "DejaVuSans.ttf", SIDE).tobytes(): code_point for code_point in _by_faces()}
    letters = sorted(look.values())
    order = permutation(len(letters), seed=0, stream=Stream.GLYPHS, major=2**63)
    return [letters[place] for place in order]


def _by_faces() -> list[int]:
    """The letters, those with most faces last: of two that look the same, these are kept."""
    faces = _faces_of_letter()
    return sorted(faces, key=lambda code_point: (len(faces[code_point]), -code_point))


@lru_cache(maxsize=64)
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    # The basic layout engine: Raqm, where it is installed, would shape the same letter otherwise.
    return ImageFont.truetype(_font_folder() / face, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=64)  # images come class by class, so that the faces of one letter are enough
def _mask(letter: str, face: str, side: int) -> Image.Image:
    """Draw the letter white on black, large, in the middle of the baseline."""
    large = side * _SCALE
    mask = Image.new("L", (large, large))
    draw = ImageDraw.Draw(mask)
    draw.text((large / 2, 0.71 * large), letter, fill=255, font=_font(face, round(0.62 * large)), anchor="ms")
    return mask


def _turned(mask: Image.Image, draws: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Turn, shear, zoom and shift the mask by five numbers in [0, 1); returns the ink, [side, side] in 0 to 1."""
    turn, shear, shift_x, shift_y = (draws[:4] * 2 - 1) * (_MAX_TURN, _MAX_SHEAR, _MAX_SHIFT, _MAX_SHIFT)
    zoom = _MIN_ZOOM + (_MAX_ZOOM - _MIN_ZOOM) * draws[4]
    cosine, sine = 1 - turn**2 / 2, turn
    matrix = np.array([[cosine, sine + shear], [-sine, cosine]]) / zoom
    centre = np.full(2, side * _SCALE / 2)
    offset = centre - matrix @ (centre + np.array([shift_x, shift_y]) * _SCALE)
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    turned = mask.transform(mask.size, Image.Transform.AFFINE, coefficients, resample=Image.Resampling.BILINEAR)
    return np.asarray(turned.resize((side, side), Image.Resampling.BOX), dtype=np.float64) / 255


@SOURCES.register
class Glyphs(SourceKind):
    """Drawn letters."""

    name = "glyphs"
    summary = "letters drawn with matplotlib's fonts; needs no files"
    order = 50
    balanced = True

    @classmethod
    def read(cls, options: SourceOptions) -> Source:
        """Draw 200 letters, or `num_classes`."""
        options.refuse_files(cls.name)
        return read_glyphs(
            num_classes=options.num_classes or 200, seed=options.seed, train_per_class=options.max_count or 400
        )
