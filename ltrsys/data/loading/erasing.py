"""Random erasing: which rectangle of an image becomes 0, drawn as torchvision's `RandomErasing` draws it.

Zhong et al., "Random erasing data augmentation", AAAI 2020, algorithm 1.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.config import ErasingConfig
from ltrsys.random import Stream, uniforms_at

ATTEMPTS = 10
"""Rectangles that are tried before the image is left whole, as in torchvision."""
ASPECT_RATIOS = 4096
"""Entries of the table of log-uniform aspect ratios."""

_PLACE = 2 * ATTEMPTS
_WHETHER = _PLACE + 2
WORDS_PER_POSITION = 24
"""Random words of a position: 20 for sizes, 2 for the place, 1 for whether; one spare."""


def rectangles(
    config: ErasingConfig, *, seed: int, epoch: int, positions: NDArray[np.int64], image_size: int
) -> NDArray[np.float32]:
    """Draw what is erased of the images at B positions.

    Returns:
        Top, left, height and width in pixels, float32 [B, 4], as DALI takes them; all 0 where nothing is erased.
    """
    random = uniforms_at(positions, WORDS_PER_POSITION, seed=seed, stream=Stream.ERASING, major=epoch)
    area = image_size**2 * (config.min_area + (config.max_area - config.min_area) * random[:, 0:_PLACE:2])
    aspect = log_uniform_ratios(config.aspect_ratio)[(random[:, 1:_PLACE:2] * ASPECT_RATIOS).astype(np.int64)]
    tried = np.rint(np.sqrt(np.stack([area * aspect, area / aspect], axis=2)))
    fits = np.all((tried > 0) & (tried < image_size), axis=2)
    shape = tried[np.arange(len(tried)), fits.argmax(axis=1)]
    corner = np.floor(random[:, _PLACE:_WHETHER] * (image_size - shape + 1))
    erased = fits.any(axis=1) & (random[:, _WHETHER] < config.probability)
    return np.where(erased[:, None], np.concatenate([corner, shape], axis=1), 0).astype(np.float32)


@cache
def log_uniform_ratios(limit: float) -> NDArray[np.float64]:
    """Return log-uniform aspect ratios from 1/limit to limit.

    Rounded to six decimals, so that the last bit of a machine's power function does not show.
    """
    exponents = ((2 * entry + 1) / ASPECT_RATIOS - 1 for entry in range(ASPECT_RATIOS))
    return np.array([round(limit**exponent, 6) for exponent in exponents])
