"""The door lets upright RGB JPEGs through untouched, makes one of everything else, and says why it refuses."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from ltrsys.data.shards.images import MAX_PIXELS, ORIENTATION, CheckedImage, ImageRejectedError, check_image

RED, BLUE = (220, 30, 30), (30, 30, 220)


def picture(width: int = 40, height: int = 24) -> Image.Image:
    """Red above blue: shows where the top is."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width, height // 2))
    return image


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


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


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_rotation_is_applied_and_its_tag_removed(orientation: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that the camera's rotation inverts
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    upright = picture()
    upright.paste((30, 200, 30), (0, 0, 8, 8))  # a green corner tells mirror images apart
    stored = upright.transpose(Image.Transpose(undo[orientation]))
    checked = check_image(encode(stored, "JPEG", quality=95, exif=exif))
    assert (checked.width, checked.height) == (40, 24)
    assert np.abs(pixels(checked) - np.asarray(upright).astype(int)).mean() < 12


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM"])
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


def test_transparency_is_laid_on_white() -> None:
    image = picture().convert("RGBA")
    image.putalpha(0)
    image.paste((*RED, 255), (0, 0, 40, 12))
    array = pixels(check_image(encode(image, "PNG")))
    assert np.abs(array[2, 2] - RED).max() < 12
    assert array[-3, -3].min() > 250
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    assert pixels(check_image(encode(palette, "PNG", transparency=0))).min() > 250


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


@given(st.binary(max_size=200), st.integers(0, 600))
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_refused_or_decoded_but_never_crashes(noise: bytes, place: int) -> None:
    data = bytearray(encode(picture(), "JPEG"))
    data[place : place + len(noise)] = noise
    with contextlib.suppress(ImageRejectedError):
        pixels(check_image(bytes(data)))
