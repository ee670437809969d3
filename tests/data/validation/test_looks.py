"""An image is known again by its pixels, and by what it looks like."""

import io

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from ltrsys.data.validation.images import ImageRejectedError, check_image
from ltrsys.data.validation.looks import Look, look_at, perceptual_hashes


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


def look_of(image: Image.Image, quality: int = 90) -> Look:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return look_at(Image.open(buffer))


def hash_of(look: Look) -> int:
    return int(perceptual_hashes(look.thumbnail[None])[0])


def test_the_hash_is_that_of_the_library(pictures: list[Image.Image]) -> None:
    thumbnails = np.stack([look_of(picture).thumbnail for picture in pictures])
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
        assert (hash_of(look_of(picture)) ^ hash_of(look_of(change(picture)))).bit_count() <= 4


def test_equal_images_have_one_digest_whatever_their_files_were() -> None:
    image = Image.effect_noise((40, 30), 50).convert("RGB")
    png, bitmap = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG")
    image.save(bitmap, "BMP")
    digest = check_image(png.getvalue()).look.digest
    assert check_image(bitmap.getvalue()).look.digest == digest
    changed = image.copy()
    changed.putpixel((39, 29), (255, 0, 0))
    for other in (image.transpose(Image.Transpose.ROTATE_90), image.crop((0, 0, 40, 29)), changed):
        other.save(bitmap := io.BytesIO(), "BMP")
        assert check_image(bitmap.getvalue()).look.digest != digest


def test_an_image_of_one_colour_is_not_that_of_another_shape() -> None:
    assert look_of(Image.new("RGB", (60, 20))).digest != look_of(Image.new("RGB", (20, 60))).digest


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_an_image_that_is_cut_off_is_found_out_in_small_too(pictures: list[Image.Image], kept: float) -> None:
    buffer = io.BytesIO()
    pictures[0].resize((1600, 1200)).save(buffer, "JPEG")
    data = buffer.getvalue()
    check_image(data)
    with pytest.raises(ImageRejectedError, match="truncated"):
        check_image(data[: int(kept * len(data))])
