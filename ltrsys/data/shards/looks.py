"""By what an image is known again: a digest of its pixels, and a hash that a new compression or size hardly changes.

The hash is that of the library ImageHash (`phash`): signs of the lowest frequencies of a small grey picture. It is
computed for many images at once, and from a grid of pixels instead of all of them.
"""

from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image

GRID, THUMBNAIL, LOW = 128, 32, 8
"""Pixels of a side that are looked at, pixels of a side of the thumbnail, frequencies of a side."""


@dataclass(frozen=True)
class Look:
    """What is kept of an image's pixels."""

    pixels: bytes
    """XXH3 of its width, height and pixels, 128 bits. SHA-256 would take half as long as decoding the image."""
    thumbnail: NDArray[np.uint8]
    """Grey, [32, 32]."""


def look_at(image: Image.Image) -> Look:
    """Return the look of an 8-bit RGB image."""
    width, height = image.size
    pixels = image.tobytes()
    digest = xxhash.xxh3_128(f"{width} {height} ".encode())
    digest.update(pixels)
    rows, columns = max(1, height // GRID), max(1, width // GRID)
    # Green has most of what is seen as brightness. Two opposite corners of each cell, so that no pattern is missed.
    green = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)[:, :, 1]
    green = green[: height // rows * rows, : width // columns * columns]
    first, last = green[::rows, ::columns], green[rows - 1 :: rows, columns - 1 :: columns]
    grid = ((first.astype(np.uint16) + last) // 2).astype(np.uint8)
    thumbnail = Image.fromarray(grid).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.HAMMING)
    return Look(digest.digest(), np.asarray(thumbnail))


def perceptual_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the perceptual hash of each thumbnail, uint64 [n], of uint8 [n, 32, 32].

    A bit is set where the coefficient of the discrete cosine transform is above the median of the 8 x 8 lowest
    (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010).
    """
    from scipy.fft import dctn

    low = dctn(thumbnails.astype(np.float64), axes=(1, 2))[:, :LOW, :LOW].reshape(len(thumbnails), LOW * LOW)
    above = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(">u8").astype(np.uint64).reshape(-1)
