"""What DALI does to the pixels of an image after it is cropped: colours, the operations of a policy, blur.

Pixels are uint8 [S, S, 3]. The functions are parts of the graph; their conditions choose among the images of a batch,
each of which goes through its own operation alone.
"""

from typing import Any

import numpy as np
from nvidia.dali import fn, math
from nvidia.dali.types import Constant, DALIDataType, DALIImageType, DALIInterpType

from ltrsys.data.loading.policies import Kind

_ALMOST_HALF = 0.498
"""Taken off before a cast that rounds to the nearest, it makes one that cuts, as PIL does, but for rounding noise."""

_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
"""PIL's filter SMOOTH, which sharpness goes away from."""

_MATRIX = [2, 3]
_NEAREST = DALIInterpType.INTERP_NN
"""As torchvision's policies by default. On a CPU, DALI takes eight times as long to interpolate."""


def mix_colours(pixels: Any, own: Any, grey: Any, mean: Any) -> Any:
    """Make own * pixel + grey * its grey value + mean * the mean grey value, clipped and cut as PIL does."""
    grey_pixels = fn.color_space_conversion(pixels, image_type=DALIImageType.RGB, output_type=DALIImageType.GRAY)
    mean_grey = math.floor(fn.reductions.mean(grey_pixels) + 0.5)
    return _cut(own * pixels + grey * grey_pixels + mean * mean_grey)


def operate(pixels: Any, operation: Any, *, on_gpu: bool) -> Any:
    """Apply one operation of `ltrsys.data.loading.policies`: its kind and parameters, float [7]."""
    kind = operation[0]
    if kind == int(Kind.WARP):
        matrix = fn.reshape(operation[1:7], shape=_MATRIX)
        pixels = fn.warp_affine(pixels, matrix=matrix, fill_value=0, interp_type=_NEAREST)
    elif kind == int(Kind.COLOUR):
        pixels = mix_colours(pixels, operation[1], operation[2], operation[3])
    elif kind == int(Kind.SHARPEN):
        smooth = fn.filter(pixels, Constant(_SMOOTH, device="gpu" if on_gpu else "cpu"))
        pixels = _cut(operation[1] * pixels + (1 - operation[1]) * smooth)
    elif kind == int(Kind.POSTERIZE):
        pixels = pixels & fn.cast(operation[1], dtype=DALIDataType.UINT8)
    elif kind == int(Kind.SOLARIZE):
        bright = pixels >= operation[1]
        pixels = bright * _inverted(pixels) + (bright ^ True) * pixels
    elif kind == int(Kind.AUTOCONTRAST):
        pixels = _stretched(pixels)
    elif kind == int(Kind.EQUALIZE):
        # DALI counts the pixels up to a grey level, PIL those below it: which is DALI's way for the inverted image.
        pixels = _inverted(fn.equalize(_inverted(pixels)))
    return pixels


def blur(pixels: Any, sigma: Any) -> Any:
    """Blur by a Gaussian of this standard deviation, cut off at three of them; 0 leaves the image as it is."""
    if sigma > 0:
        pixels = fn.gaussian_blur(pixels, sigma=sigma)
    return pixels


def erase(image: Any, rectangle: Any) -> Any:
    """Make a rectangle of a normalised image 0: top, left, height and width, which are 0 for none."""
    return fn.erase(image, anchor=rectangle[:2], shape=rectangle[2:4], axis_names="HW", fill_value=0.0)


def _stretched(pixels: Any) -> Any:
    """Stretch each channel to 0..255; one of a single value stays as it is."""
    low = fn.reductions.min(pixels, axis_names="HW", keep_dims=True)
    width = fn.reductions.max(pixels, axis_names="HW", keep_dims=True) - low
    flat = width == 0
    return _cut((pixels - low * (flat ^ True)) * (255.0 / (width + flat * 255)))


def _inverted(pixels: Any) -> Any:
    return Constant(255, dtype=DALIDataType.UINT8) - pixels


def _cut(values: Any) -> Any:
    return fn.cast(values - _ALMOST_HALF, dtype=DALIDataType.UINT8)
