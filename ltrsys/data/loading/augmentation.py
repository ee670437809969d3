"""What is done to each image: a pure function of (seed, epoch, global position, sizes of the image).

Crops are drawn as torchvision's `RandomResizedCrop` draws them, colour factors as its `ColorJitter` does
(REPRODUCTION of the paper's training: crop and flip everywhere, jitter on ImageNet-LT and Places-LT). The operations
of a policy, blur and erasing are drawn from words of their own: with or without them, the crop is the same.

Every global position owns `WORDS_PER_POSITION` random words, so that none has to be replayed to know
another. Only operations that IEEE 754 rounds correctly are applied to them (+, -, *, /, square root), no
logarithm or power: the same crop comes out on every machine.
"""

from dataclasses import dataclass, fields, replace
from itertools import permutations
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.config import AugmentationConfig, BlurConfig, Interpolation
from ltrsys.data.loading.erasing import ASPECT_RATIOS, log_uniform_ratios, rectangles
from ltrsys.data.loading.policies import operations
from ltrsys.random import Stream, uniforms_at

ATTEMPTS = 10
"""Areas and aspect ratios that are tried before the central crop is taken, as in torchvision."""
COLOUR_STEPS = 3
"""Brightness, contrast and saturation, in random order."""

_CROP = 2 * ATTEMPTS
_FLIP = _CROP + 2
_COLOUR = _FLIP + 1
_ORDER = _COLOUR + COLOUR_STEPS
WORDS_PER_POSITION = 28
"""Random words of a position: 20 for sizes, 2 for the place, 1 for the flip, 3 factors, their order; one spare."""

_FILTER_REACH: dict[Interpolation, int] = {"bilinear": 1, "bicubic": 2}
"""Pixels that the filter of the resampling reaches to either side, those of the smaller of both images."""

BLUR_WORDS = 4
"""Random words of a position for blur: whether, and how much; two spare."""

_COLOUR_ORDERS = np.array(list(permutations(range(COLOUR_STEPS))))


@dataclass(frozen=True)
class Augmentation:
    """What is done to each of B images, in this order: decode the window, resize the region, operate, colour, blur,
    mirror, normalise, erase.

    In few arrays, since each of them costs the main thread some 30 us when a batch is handed to DALI.
    """

    geometry: NDArray[np.int32]
    """[B, 5]: top, left, bottom and right of the decoded window, in pixels of the upright image; 1 where left and right
    are exchanged."""
    region: NDArray[np.float32]
    """[B, 2, 2]: top and left, bottom and right of what becomes the output, in pixels of the window. The rest of the
    window is only there for the resampling filter to reach into."""
    colour: NDArray[np.float32] | None = None
    """[B, 3 steps, 3]: each step makes a * pixel + b * its grey value + c * the image's mean grey value, with
    (a, b, c) = (f, 0, 0) for brightness, (f, 0, 1 - f) for contrast, (f, 1 - f, 0) for saturation; None where
    there is no jitter."""
    operations: NDArray[np.float32] | None = None
    """[B, K, 7]: the kind and the parameters of each operation of the policy (`ltrsys.data.loading.policies.Kind`)."""
    blur: NDArray[np.float32] | None = None
    """[B]: standard deviation of the Gaussian, in pixels; 0 where there is none."""
    erased: NDArray[np.float32] | None = None
    """[B, 4]: top, left, height and width of the rectangle that becomes 0, in pixels of the mirrored image."""
    size: NDArray[np.float32] | None = None
    """[B, 2]: height and width of the result, in pixels; None where it is `data.image_size`."""

    @classmethod
    def of(
        cls,
        *,
        anchor: NDArray[np.int64],
        shape: NDArray[np.int64],
        region_start: NDArray[np.number],
        region_end: NDArray[np.number],
        mirror: NDArray[np.bool_],
    ) -> "Augmentation":
        """Pack what is given x before y, [B, 2] each; `mirror` is [B]."""
        geometry = np.concatenate([anchor[:, ::-1], (anchor + shape)[:, ::-1], mirror[:, None]], axis=1)
        region = np.stack([region_start[:, ::-1], region_end[:, ::-1]], axis=1)
        return cls(geometry.astype(np.int32), region.astype(np.float32))

    def __len__(self) -> int:
        return len(self.geometry)

    @property
    def anchor(self) -> NDArray[np.int32]:
        """The window's left and top, [B, 2]."""
        return self.geometry[:, 1::-1]

    @property
    def shape(self) -> NDArray[np.int32]:
        """The window's width and height, [B, 2]."""
        return self.geometry[:, 3:1:-1] - self.anchor

    @property
    def mirror(self) -> NDArray[np.int32]:
        """1 where left and right are exchanged, [B]."""
        return self.geometry[:, 4]

    def part(self, begin: int, end: int) -> "Augmentation":
        """Return what is done to images `begin` to `end` - 1."""
        return Augmentation(**{name: array[begin:end] for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that there are, [B, ...], by name."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: array for name, array in named if array is not None}


class _Address(TypedDict):
    """Of random words."""

    seed: int
    epoch: int
    positions: NDArray[np.int64]


def training_augmentation(
    config: AugmentationConfig,
    *,
    seed: int,
    epoch: int,
    positions: NDArray[np.int64],
    width: NDArray[np.integer],
    height: NDArray[np.integer],
    image_size: int,
) -> Augmentation:
    """Draw what is done to the images at B global positions.

    Args:
        config: The ranges to draw from.
        seed: The experiment's seed.
        epoch: Counted from 0.
        positions: Global positions within the epoch, [B].
        width: Of the image at each position, in pixels, [B].
        height: Likewise.
        image_size: Side of the square that is made of each.
    """
    random = uniforms_at(positions, WORDS_PER_POSITION, seed=seed, stream=Stream.AUGMENTATION, major=epoch)
    anchor, shape = _random_crop(config, random[:, :_FLIP], width.astype(np.int64), height.astype(np.int64))
    mirror = (random[:, _FLIP] < 0.5) & config.flip
    drawn = Augmentation.of(
        anchor=anchor,
        shape=shape,
        region_start=np.zeros(shape.shape),
        region_end=shape,
        mirror=mirror,
    )
    address: _Address = {"seed": seed, "epoch": epoch, "positions": positions}
    policy, blur, erasing = config.policy, config.blur, config.erasing
    return replace(
        drawn,
        colour=_colour_steps(config.jitter, random[:, _COLOUR:]) if any(config.jitter) else None,
        operations=operations(policy, mirror=mirror, image_size=image_size, **address) if policy.steps else None,
        blur=_blur(blur, **address) if blur.probability else None,
        erased=rectangles(erasing, image_size=image_size, **address) if erasing.probability else None,
    )


def evaluation_augmentation(
    width: NDArray[np.integer],
    height: NDArray[np.integer],
    *,
    resize: int,
    image_size: int,
    interpolation: Interpolation = "bilinear",
) -> Augmentation:
    """Resize the short side to `resize`, then take the central square of `image_size`, as torchvision rounds it.

    Only the square and what the filter reaches around it is decoded.

    Args:
        width: Of each image, in pixels, [B].
        height: Likewise.
        resize: The short side after resizing.
        image_size: Side of the square; at most `resize`.
        interpolation: How the image is resized.
    """
    size = np.stack([width, height], axis=1).astype(np.int64)
    short = size.min(axis=1, keepdims=True)
    resized = np.where(size == short, resize, (resize * size / short).astype(np.int64))
    corner = np.rint((resized - image_size) / 2)
    pixels_per_pixel = size / resized
    start, end = corner * pixels_per_pixel, (corner + image_size) * pixels_per_pixel
    reach = np.ceil(_FILTER_REACH[interpolation] * np.maximum(pixels_per_pixel, 1)) + 1
    anchor = np.clip(np.floor(start - reach), 0, None).astype(np.int64)
    stop = np.minimum(np.ceil(end + reach), size).astype(np.int64)
    return Augmentation.of(
        anchor=anchor,
        shape=stop - anchor,
        region_start=start - anchor,
        region_end=end - anchor,
        mirror=np.zeros(len(size), np.bool_),
    )


def _random_crop(
    config: AugmentationConfig, random: NDArray[np.float64], width: NDArray[np.int64], height: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return anchors and shapes, [B, 2] each, x before y; `random` is [B, 22]."""
    share = config.min_area + (1 - config.min_area) * random[:, 0:_CROP:2]
    area = (width * height)[:, None] * share
    aspect = log_uniform_ratios(config.aspect_ratio)[(random[:, 1:_CROP:2] * ASPECT_RATIOS).astype(np.int64)]
    size = np.stack([width, height], axis=1)
    tried = np.rint(np.sqrt(np.stack([area * aspect, area / aspect], axis=2))).astype(np.int64)
    fits = np.all((tried > 0) & (tried <= size[:, None]), axis=2)
    first_fit = tried[np.arange(len(tried)), fits.argmax(axis=1)]
    found = fits.any(axis=1, keepdims=True)
    shape = np.where(found, first_fit, _central_shape(size, config.aspect_ratio))
    slack = size - shape
    anchor = np.where(found, (random[:, _CROP:_FLIP] * (slack + 1)).astype(np.int64), slack // 2)
    return anchor, shape


def _central_shape(size: NDArray[np.int64], aspect_ratio: float) -> NDArray[np.int64]:
    """Return the largest shape within `size` [B, 2] whose aspect ratio is allowed."""
    width, height = size[:, 0], size[:, 1]
    too_tall, too_wide = width / height < 1 / aspect_ratio, width / height > aspect_ratio
    shape_x = np.where(too_wide, np.rint(height * aspect_ratio), width)
    shape_y = np.where(too_tall, np.rint(width * aspect_ratio), height)
    return np.stack([shape_x, shape_y], axis=1).astype(np.int64)


def _colour_steps(jitter: tuple[float, float, float], random: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the steps of `Augmentation.colour` for brightness, contrast and saturation within 1 ± `jitter`."""
    factor = 1 + np.array(jitter) * (2 * random[:, :COLOUR_STEPS] - 1)
    rest = 1 - factor
    steps = np.zeros((len(random), COLOUR_STEPS, 3))
    steps[:, :, 0] = factor
    steps[:, 1, 2] = rest[:, 1]
    steps[:, 2, 1] = rest[:, 2]
    order = _COLOUR_ORDERS[(random[:, _ORDER - _COLOUR] * len(_COLOUR_ORDERS)).astype(np.int64)]
    return np.take_along_axis(steps, order[:, :, None], axis=1).astype(np.float32)


def _blur(config: BlurConfig, *, seed: int, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return standard deviations, [B], uniform between both limits; 0 where an image is not blurred."""
    random = uniforms_at(positions, BLUR_WORDS, seed=seed, stream=Stream.BLUR, major=epoch)
    sigma = config.min_sigma + (config.max_sigma - config.min_sigma) * random[:, 1]
    return np.where(random[:, 0] < config.probability, sigma, 0).astype(np.float32)
