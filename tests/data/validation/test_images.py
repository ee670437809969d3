"""The door lets upright RGB JPEGs through untouched, makes one of everything else, and says why it refuses."""

import contextlib
import functools
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pillow_heif
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from ltrsys.data.validation.images import (
    MAX_PIXELS,
    ORIENTATION,
    CheckedImage,
    ImageRejectedError,
    StoredImage,
    as_stored,
    check_image,
)
from tests.data.sources.pictures import BLUE, FORMAT_OF_ENDING, RED, encode, picture

FORMATS = sorted(set(FORMAT_OF_ENDING.values()))


def pixels(checked: CheckedImage) -> np.ndarray:
    image = Image.open(io.BytesIO(checked.jpeg))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (checked.width, checked.height))
    assert ORIENTATION not in image.getexif()
    return np.asarray(image).astype(int)


def assert_red_above_blue(array: np.ndarray) -> None:
    assert np.abs(array[2, 2] - RED).max() < 12
    assert np.abs(array[-3, -3] - BLUE).max() < 12


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "quality": 80}], ids=str)
def test_an_upright_rgb_jpeg_stays_byte_for_byte(options: dict[str, object]) -> None:
    data = encode(picture(), "JPEG", **options)
    checked = check_image(data)
    assert (checked.jpeg, checked.width, checked.height) == (data, 40, 24)
    assert check_image(data, resize=24).jpeg == data, "there is nothing to reduce"


def test_a_jpeg_with_the_upright_tag_stays_byte_for_byte() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    data = encode(picture(), "JPEG", exif=exif)
    assert check_image(data).jpeg == data


@pytest.mark.parametrize("image_format", ["JPEG", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_rotation_is_applied_once_and_its_tag_removed(orientation: int, image_format: str) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that the camera's rotation inverts
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    upright = picture()
    upright.paste((30, 200, 30), (0, 0, 8, 8))  # a green corner tells mirror images apart
    stored = upright.transpose(Image.Transpose(undo[orientation]))
    data = encode(stored, image_format, quality=95, exif=exif.tobytes())
    assert image_format == "JPEG" or b"irot" in data or b"imir" in data, "the file itself says how it is turned"
    checked = check_image(data)
    assert (checked.width, checked.height) == (40, 24)
    assert np.abs(pixels(checked) - np.asarray(upright).astype(int)).mean() < 12


@pytest.mark.parametrize("image_format", [name for name in FORMATS if name != "JPEG"])
def test_other_formats_become_rgb_jpegs(image_format: str) -> None:
    assert_red_above_blue(pixels(check_image(encode(picture(), image_format))))


@pytest.mark.parametrize(("mode", "image_format"), [("L", "JPEG"), ("L", "PNG"), ("1", "PNG"), ("LA", "PNG")])
def test_grey_images_become_rgb(mode: str, image_format: str) -> None:
    array = pixels(check_image(encode(Image.linear_gradient("L").convert(mode), image_format)))
    assert np.abs(array[:, :, 0] - array[:, :, 2]).max() <= 2
    assert array[:20].mean() < 40
    assert array[-20:].mean() > 215


def test_cmyk_and_palettes_become_rgb() -> None:
    assert_red_above_blue(pixels(check_image(encode(picture().convert("CMYK"), "JPEG", quality=95))))
    assert_red_above_blue(pixels(check_image(encode(picture().quantize(4), "PNG"))))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_keep_their_range(image_format: str) -> None:
    grey = np.linspace(0, 65_535, 64 * 64).reshape(64, 64).astype(np.uint16)
    array = pixels(check_image(encode(Image.fromarray(grey), image_format)))
    assert np.abs(array[:, :, 0] - grey / 257).mean() < 2


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "HEIF", "AVIF", "JPEG2000"])
def test_transparency_is_laid_on_white(image_format: str) -> None:
    image = picture().convert("RGBA")
    image.putalpha(0)
    image.paste((*RED, 255), (0, 0, 40, 12))
    array = pixels(check_image(encode(image, image_format)))
    assert np.abs(array[2, 2] - RED).max() < 12
    assert array[-3, -3].min() > 250


def test_transparency_of_a_palette_is_laid_on_white() -> None:
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    assert pixels(check_image(encode(palette, "PNG", transparency=0))).min() > 250


def test_ten_bits_keep_their_range() -> None:
    array = np.repeat(np.array([RED, BLUE], dtype=np.uint16) * 257, 12, axis=0)[:, None, :].repeat(40, axis=1)
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (40, 24), array.tobytes()).save(buffer)
    assert pillow_heif.open_heif(buffer.getvalue(), convert_hdr_to_8bit=False).info["bit_depth"] == 10
    assert_red_above_blue(pixels(check_image(buffer.getvalue())))


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    resize=st.integers(1, 200),
    image_format=st.sampled_from(["JPEG", "PNG"]),
)
@example(width=80, height=60, resize=30, image_format="JPEG")  # libjpeg reduces to exactly this
@settings(max_examples=40, deadline=None)
def test_the_short_side_is_reduced_and_never_enlarged(width: int, height: int, resize: int, image_format: str) -> None:
    width, height = max(width, height // 50), max(height, width // 50)
    checked = check_image(encode(Image.new("RGB", (width, height), RED), image_format), resize=resize)
    assert min(checked.width, checked.height) == min(width, height, resize)
    scale = min(checked.width, checked.height) / min(width, height)
    assert abs(max(checked.width, checked.height) - max(width, height) * scale) <= 0.5 + 1e-9
    assert np.abs(pixels(checked) - RED).max() < 12


def test_rotation_and_reduction_go_together() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    checked = check_image(encode(picture(400, 240).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif), resize=60)
    assert (checked.width, checked.height) == (100, 60)
    assert_red_above_blue(pixels(checked))


@pytest.mark.parametrize("size", [(64, 1), (1, 64), (20_000, 300), (1, 1)])
def test_odd_sizes_pass(size: tuple[int, int]) -> None:
    checked = check_image(encode(Image.new("RGB", size, RED), "PNG"))
    assert (checked.width, checked.height) == size
    pixels(checked)


def claimed_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that no pixels back up."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + checksum + b"\0\0\0\0IDAT" + b"\0" * 8


def claiming(image_format: str, width: int, height: int) -> bytes:
    """An image file of 128 x 64 pixels that claims another size."""
    data = encode(picture(128, 64), image_format).replace(
        struct.pack(">II", 128, 64), struct.pack(">II", width, height)
    )
    # JPEG 2000 names the size twice, in the box with the height first.
    return data.replace(struct.pack(">II", 64, 128), struct.pack(">II", height, width))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("take", [check_image, as_stored])
def test_fewer_pixels_may_be_the_most(image_format: str, take: Callable[..., StoredImage]) -> None:
    data = encode(picture(40, 30), image_format)
    assert take(data, max_pixels=1200).width == 40
    with pytest.raises(ImageRejectedError, match="it has 40 x 30 pixels, more than 1199"):
        take(data, max_pixels=1199)


@pytest.mark.parametrize("image_format", ["HEIF", "AVIF", "JPEG2000"])
@pytest.mark.parametrize(
    ("size", "reason"), [((15_000, 14_000), f"more than {MAX_PIXELS} pixels"), ((30_000, 20), "over 100 times")]
)
def test_a_size_that_is_claimed_is_refused_before_anything_is_decoded(
    image_format: str, size: tuple[int, int], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = claiming(image_format, *size)

    def load(image: Image.Image) -> None:
        pytest.fail(f"{image.size} was decoded")

    monkeypatch.setattr(type(Image.open(io.BytesIO(encode(picture(), image_format)))), "load", load)
    with pytest.raises(ImageRejectedError, match=reason):
        check_image(data)


def test_what_another_program_would_have_to_run_is_no_known_format() -> None:
    with pytest.raises(ImageRejectedError, match="not an image of a known format"):
        check_image(encode(picture(), "EPS"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>404 Not Found</html>", "not an image of a known format"),
        (encode(picture(300, 300), "JPEG")[:900], r"cannot be decoded \(image file is truncated"),
        (encode(picture(300, 300), "JPEG")[:-2], "truncated|end"),
        (encode(Image.effect_noise((99, 99), 50), "PNG")[:3000], r"cannot be decoded \(image file is truncated"),
        (claimed_png(20_000, 15_000), f"300000000|{MAX_PIXELS}"),
        (claimed_png(60_000, 60_000), f"more than {MAX_PIXELS}"),
        (claimed_png(70_000, 2_000), "at most 65500"),
        (claimed_png(20_000, 1), "20000 x 1 pixels: one side is over 100 times"),
        (encode(Image.new("F", (8, 8)), "TIFF"), "floating-point"),
    ],
    ids=[
        "empty",
        "html",
        "truncated",
        "no end",
        "truncated png",
        "bomb",
        "large bomb",
        "too wide",
        "too long",
        "float",
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageRejectedError, match=reason) as refusal:
        check_image(data)
    assert "\n" not in str(refusal.value)


@pytest.mark.filterwarnings("ignore:.*malformed MPO")
@pytest.mark.parametrize("image_format", FORMATS)
@given(noise=st.binary(max_size=40), place=st.floats(0, 1), cut=st.floats(0, 1))
@settings(max_examples=150, deadline=None, derandomize=True)
@pytest.mark.long
def test_a_damaged_file_is_refused_or_decoded_but_never_crashes(
    image_format: str, noise: bytes, place: float, cut: float
) -> None:
    data = bytearray(_valid(image_format))
    first = int(place * len(data))
    data[first : first + len(noise)] = noise
    for damaged in (bytes(data), bytes(data[: int(cut * len(data))])):
        with contextlib.suppress(ImageRejectedError):
            pixels(check_image(damaged))


EXIF_OF_A_ROTATION = Image.Exif()
EXIF_OF_A_ROTATION[ORIENTATION] = 6
SEGMENTS = [
    *[(marker, content) for marker in range(0xE0, 0xF0) for content in (b"", b"JFIF\0", b"any")],
    (0xE1, EXIF_OF_A_ROTATION.tobytes()),
    (0xEE, b"Adobe\0\x64\0\0\0\0\0"),  # its last byte says that the colours are RGB
    (0xFE, b"a comment"),
    (0xC0, b"\x08\0\x08\0\x08\x01\x01\x11\0"),  # a second frame
]


@given(
    st.sampled_from(["RGB", "L", "CMYK"]),
    st.booleans(),
    st.sampled_from(SEGMENTS),
    st.booleans(),
    st.none() | st.tuples(st.integers(2, 400), st.integers(0, 255)),
)
@example("RGB", False, (0xE1, EXIF_OF_A_ROTATION.tobytes()), True, None)
@settings(max_examples=400, deadline=None)
def test_what_is_not_decoded_is_what_the_check_makes(
    mode: str, progressive: bool, segment: tuple[int, bytes], is_last: bool, damage: tuple[int, int] | None
) -> None:
    data = bytearray(encode(picture(24, 16).convert(mode), "JPEG", progressive=progressive))
    marker, content = segment
    place = data.index(b"\xff\xda") if is_last else 2
    data[place:place] = bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
    if damage is not None:
        data[min(damage[0], len(data) - 1)] = damage[1]
    try:
        checked = check_image(bytes(data))
    except ImageRejectedError:
        return
    stored = as_stored(bytes(data))
    assert (stored.jpeg, stored.width, stored.height) == (checked.jpeg, checked.width, checked.height)


@functools.cache
def _valid(image_format: str) -> bytes:
    return encode(picture(), image_format)


@pytest.mark.parametrize("error", [MemoryError(), AttributeError("x"), IndexError(), RuntimeError("a\nb"), KeyError(1)])
def test_whatever_a_decoder_raises_is_a_refusal_of_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise error

    data = encode(picture(), "JPEG")
    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(ImageRejectedError, match=r"^it cannot be decoded \(.+\)$"):
        check_image(data)


def test_threads_that_read_images_leave_warnings_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    data, opened, before = encode(picture(), "TIFF"), Image.open, list(warnings.filters)
    one_is_inside, both_are, one_has_left = threading.Event(), threading.Event(), threading.Event()

    def open_in_turn(*given: object, **named: object) -> Image.Image:
        if threading.current_thread() is threading.main_thread():
            both_are.set()
            assert one_has_left.wait(60)
            warnings.warn_explicit("about the picture", UserWarning, "Image.py", 1, module="PIL.Image")
        else:
            one_is_inside.set()
            assert both_are.wait(60)
        return opened(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", open_in_turn)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(check_image, data)
        first.add_done_callback(lambda _: one_has_left.set())
        assert one_is_inside.wait(60)
        assert check_image(data).jpeg
        assert first.result().jpeg
    assert list(warnings.filters) == before
