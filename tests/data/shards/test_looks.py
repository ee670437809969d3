"""An image is known again by its pixels, and by what it looks like."""

import io

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from ltrsys.data.shards.images import check_image
from ltrsys.data.shards.looks import Look, look_at, perceptual_hashes


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Twelve parts of two photographs, landscapes and portraits."""
    originals = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    random = np.random.default_rng(0)
    parts = []
    for number in range(12):
        width, height = (360, 270) if number % 3 else (270, 360)
        left, top = random.integers(0, 640 - width), random.integers(0, 427 - height)
        parts.append(originals[number % 2].crop((left, top, left + width, top + height)))
    return parts


def encoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def hash_of(look: Look) -> int:
    return int(perceptual_hashes(look.thumbnail[None])[0])


def test_the_hash_is_that_of_the_library(pictures: list[Image.Image]) -> None:
    thumbnails = np.stack([look_at(picture).thumbnail for picture in pictures])
    theirs = [int(str(imagehash.phash(Image.fromarray(thumbnail))), 16) for thumbnail in thumbnails]
    assert perceptual_hashes(thumbnails).tolist() == theirs


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(image, 50),
        lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
        lambda image: encoded(image.resize((image.width * 2 // 3, image.height * 2 // 3)), 80),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    ],
    ids=["recompressed", "half as large", "two thirds and recompressed", "brighter"],
)
def test_the_same_picture_has_nearly_the_same_hash(pictures: list[Image.Image], change) -> None:
    for picture in pictures:
        assert (hash_of(look_at(picture)) ^ hash_of(look_at(change(picture)))).bit_count() <= 4


def test_pixels_tell_what_is_exactly_equal() -> None:
    image = Image.effect_noise((40, 30), 50).convert("RGB")
    png, larger = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG")
    image.save(larger, "BMP")
    of_png, of_bmp = check_image(png.getvalue()), check_image(larger.getvalue())
    assert of_png.look.pixels == of_bmp.look.pixels == look_at(image).pixels
    assert look_at(image.transpose(Image.Transpose.ROTATE_90)).pixels != of_png.look.pixels
    changed = image.copy()
    changed.putpixel((39, 29), (1, 2, 3))
    assert look_at(changed).pixels != of_png.look.pixels


def test_another_shape_of_the_same_bytes_is_another_image() -> None:
    flat = Image.new("RGB", (6, 2))
    assert look_at(flat).pixels != look_at(Image.new("RGB", (2, 6))).pixels
