"""By what an image is known again: its picture in small, and a hash that a new compression or size hardly changes.

Both come from the JPEG that is stored, decoded to a fraction of its size. libjpeg then reads all of the file, as it
must to find out that it is whole, but computes fewer pixels: that takes half as long.

The hash is that of the library ImageHash (`phash`): signs of the lowest frequencies of a small grey picture. It is
computed for many images at once.
"""

from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image

ENOUGH, THUMBNAIL, LOW = 48, 32, 8
"""Pixels that the short side keeps, pixels of a side of the thumbnail, frequencies of a side."""


@dataclass(frozen=True)
class Look:
    """What is kept of an image's pixels."""

    digest: bytes
    """XXH3 of the image's size and of its pixels in small, 128 bits: equal for equal images."""
    thumbnail: NDArray[np.uint8]
    """Grey, [32, 32]."""


def look_at(image: Image.Image) -> Look:
    """Decode an RGB JPEG that is open and not yet loaded, in small, and return its look.

    Raises:
        OSError: Where it is not whole, and whatever else Pillow's decoder raises.
    """
    width, height = image.size
    scale = next((scale for scale in (8, 4, 2) if min(width, height) // scale >= ENOUGH), 1)
    image.draft(None, (width // scale, height // scale))
    image.load()
    digest = xxhash.xxh3_128(f"{width} {height} ".encode())
    digest.update(image.tobytes())
    thumbnail = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.HAMMING)
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
