"""Validation: what any image file becomes before it enters a shard, or why it may not.

Every image is decoded once, whole. An upright RGB JPEG stays as it is, byte for byte, unless it is to become
smaller; everything else becomes one, so that no decoder downstream has to know about rotation tags, palettes,
transparency, CMYK or 16 bits.
"""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

import numpy as np
from PIL import Image, UnidentifiedImageError

from ltrsys.data.sources.files.formats import FORMATS
from ltrsys.data.validation.looks import Look, look_at
from ltrsys.errors import DataError

QUALITY = 95
"""JPEG quality of what is encoded here."""
MAX_SIDE = 65_500
"""The longest side a JPEG can have with libjpeg, in pixels; the index holds 65,535."""
MAX_PIXELS = 178_956_970
"""More than this is refused before it is decoded: a file of some kilobytes can claim to hold gigabytes."""
MAX_ASPECT = 100
"""A longer image is refused: evaluation, which resizes the short side, would make it huge."""

START_OF_JPEG, END_OF_JPEG = b"\xff\xd8\xff", b"\xff\xd9"
"""Its first bytes, and its last ones."""
ORIENTATION = 0x0112
"""The EXIF tag with the camera's rotation."""
BASELINE_OR_PROGRESSIVE = frozenset({0xC0, 0xC1, 0xC2})
"""Start-of-frame markers of the JPEGs that every decoder reads; others are lossless or arithmetically coded."""

_TABLES_AND_COMMENTS = frozenset({0xC4, 0xDB, 0xDD, 0xFE})
"""Markers of Huffman and quantisation tables, of restarts, and of comments."""
_JFIF = (0xE0, b"JFIF\0")
"""The marker of the header that says that the three colours are YCbCr, and how it begins."""
_START_OF_SCAN = 0xDA


class ImageRejectedError(DataError):
    """An image that cannot enter a shard; the message says why, not which."""


@dataclass(frozen=True)
class StoredImage:
    """An upright RGB JPEG."""

    jpeg: bytes
    width: int
    height: int


@dataclass(frozen=True)
class CheckedImage(StoredImage):
    """One that was decoded, and found whole."""

    format: str
    """What the file was, in Pillow's words."""
    look: Look


def check_image(data: bytes, *, resize: int | None = None, max_pixels: int = MAX_PIXELS) -> CheckedImage:
    """Decode an image file and return it as an upright RGB JPEG.

    Args:
        data: The bytes of the file, of any of the `FORMATS`; the first frame counts.
        resize: What the short side is reduced to, in pixels; a shorter one stays.
        max_pixels: A larger image is refused before it is decoded; above `MAX_PIXELS`, as if it were that.

    Raises:
        ImageRejectedError: For what is empty, truncated, no image, too large or too long.
    """
    if not data:
        raise ImageRejectedError("the file is empty")
    try:
        with _QUIET:
            return _checked(data, resize, max_pixels)
    except (OSError, ValueError) as error:  # of a conversion
        raise _cannot_be_decoded(error) from None


def as_stored(data: bytes, *, resize: int | None = None, max_pixels: int = MAX_PIXELS) -> StoredImage:
    """Return the JPEG that `check_image` makes of an image file, without decoding one that stays as it is.

    Such a one ends as a JPEG ends, but may be damaged inside: whoever decodes it is told.

    Args:
        data: The bytes of the file.
        resize: What the short side is reduced to, in pixels; a shorter one stays.
        max_pixels: A larger image is refused before it is decoded.

    Raises:
        ImageRejectedError: As `check_image` does.
    """
    if data.startswith(START_OF_JPEG) and data.endswith(END_OF_JPEG):
        plain = _plain_jpeg_size(data)  # a fifth of the time that Pillow takes
        if plain is not None and _reduced(*plain, resize) == plain:
            _check_size(*plain, max_pixels)
            return StoredImage(data, *plain)
        with _QUIET, _decoding():
            image = Image.open(io.BytesIO(data), formats=["JPEG"])
        if image.format == "JPEG" and _reduced(*image.size, resize) == image.size and _stays(image, data):
            _check_size(*image.size, max_pixels)
            return StoredImage(data, *image.size)
    return check_image(data, resize=resize, max_pixels=max_pixels)


class _Quiet:
    """Leaves out Pillow's warnings, of odd metadata and of sizes, which are checked here.

    How warnings are treated belongs to the whole process, and images are read by several threads: the first of them
    that comes in changes it, and the last that leaves changes it back.
    """

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif|pi_heif)\b")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.__exit__(None, None, None)


_QUIET = _Quiet()


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn whatever a decoder makes of a damaged file into a rejection. They raise nearly anything."""
    try:
        yield
    except UnidentifiedImageError:
        raise ImageRejectedError("not an image of a known format") from None
    except Image.DecompressionBombError:
        raise ImageRejectedError(f"it claims more than {MAX_PIXELS} pixels") from None
    except Exception as error:
        raise _cannot_be_decoded(error) from None


def _cannot_be_decoded(error: Exception) -> ImageRejectedError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageRejectedError(f"it cannot be decoded ({reason})")


def _checked(data: bytes, resize: int | None, max_pixels: int) -> CheckedImage:
    with _decoding():
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    _check_size(*image.size, max_pixels)
    width, height = _reduced(*image.size, resize)
    is_reduced = (width, height) != image.size  # asked now: `draft` changes `image.size`
    if image.format == "JPEG" and is_reduced:
        # libjpeg reduces by 1/2, 1/4 or 1/8 while it decodes, to no less than is wanted: the rest is left to Lanczos,
        # which would take three times as long as the decoding on the whole image.
        image.draft(None, (width, height))
    if image.format == "JPEG" and not is_reduced and _stays(image, data):
        with _decoding():
            return CheckedImage(data, width, height, "JPEG", look_at(image))
    with _decoding():
        image.load()
    orientation = _orientation(image)
    upright = _to_rgb(image)
    if (width, height) != image.size:
        upright = upright.resize((width, height), Image.Resampling.LANCZOS)
    if orientation in _TRANSPOSE:
        upright = upright.transpose(_TRANSPOSE[orientation])
    buffer = io.BytesIO()
    upright.save(buffer, format="JPEG", quality=QUALITY)
    look = look_at(Image.open(buffer, formats=["JPEG"]))
    return CheckedImage(buffer.getvalue(), *upright.size, image.format or "", look)


def _stays(image: Image.Image, data: bytes) -> bool:
    """Tell whether a JPEG is one that every decoder makes the same upright RGB image of."""
    return image.mode == "RGB" and _frame_marker(data) in BASELINE_OR_PROGRESSIVE and _orientation(image) == 1


def _check_size(width: int, height: int, max_pixels: int) -> None:
    most = min(max_pixels, MAX_PIXELS)
    if width * height > most:
        raise ImageRejectedError(f"it has {width} x {height} pixels, more than {most}")
    if max(width, height) > MAX_SIDE:
        raise ImageRejectedError(f"it has {width} x {height} pixels; a JPEG's side has at most {MAX_SIDE}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageRejectedError(
            f"it has {width} x {height} pixels: one side is over {MAX_ASPECT} times as long as the other"
        )


def _reduced(width: int, height: int, resize: int | None) -> tuple[int, int]:
    short = min(width, height)
    if resize is None or short <= resize:
        return width, height
    return max(resize, round(width * resize / short)), max(resize, round(height * resize / short))


_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by the value of its orientation tag."""


def _orientation(image: Image.Image) -> int | None:
    """Return the orientation tag: 1 where there is none, and `None` where decoders may read it differently."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow reads a damaged tag table with whatever error it runs into
        return None
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return the image as 8-bit RGB, on white where it is transparent."""
    if image.mode.startswith("I"):  # 16 bits of grey, whatever the byte order
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65_535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageRejectedError("its pixels are floating-point numbers, which have no agreed range")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG of three colours that nothing but its pixels tells anything of.

    None for one that may have a rotation, a colour space or further images, and for all that has to be looked at
    closely.
    """
    size = None
    for marker, start in _segments(data):
        if marker == _START_OF_SCAN:
            return size
        if marker in BASELINE_OR_PROGRESSIVE:
            precision, height, width, colours = struct.unpack_from(">BHHB", data.ljust(start + 6, b"\0"), start)
            if size is not None or precision != 8 or colours != 3 or not 0 < height * width <= MAX_PIXELS:
                return None
            size = width, height
        elif marker not in _TABLES_AND_COMMENTS and (marker, data[start : start + 5]) != _JFIF:
            return None
    return None


def _frame_marker(data: bytes) -> int | None:
    """Return the second byte of a JPEG's start-of-frame marker."""
    frames = (marker for marker, _ in _segments(data) if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC))
    return next(frames, None)


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the second byte of each marker of a JPEG's header, and where what stands behind it begins."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        yield marker, place + 4
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
