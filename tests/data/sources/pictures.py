"""Image files of many formats, made by Pillow."""

import io

import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()

RED, BLUE = (220, 30, 30), (30, 30, 220)
FORMAT_OF_ENDING = {
    ".jpg": "JPEG",
    ".JPEG": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".mpo": "MPO",
    ".png": "PNG",
    ".gif": "GIF",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".avif": "AVIF",
    ".jp2": "JPEG2000",
    ".tga": "TGA",
    ".pcx": "PCX",
    ".qoi": "QOI",
    ".dds": "DDS",
    ".sgi": "SGI",
}
"""Pillow's name of the format of each ending. It writes no PSD."""


def picture(width: int = 40, height: int = 24) -> Image.Image:
    """Red above blue: shows where the top is."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width, height // 2))
    return image


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    if image_format == "MPO":
        options |= {"save_all": True, "append_images": [image]}
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()
