"""Photographs, and what PIL and torchvision make of them: the reference implementation for the DALI pipeline."""

import io

import numpy as np
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode, functional

from benchmarks.photographs import photograph

SHORT_SIDES = (300, 427, 256, 224, 100, 32)


def photographs():
    """Landscapes and portraits, larger and smaller than the network's input, as JPEGs: uint8 arrays."""
    return [np.frombuffer(photograph(number, side), np.uint8) for number, side in enumerate(SHORT_SIDES)]


def odd_photograph(width, height):
    """A photograph of one size, as a JPEG: a uint8 array."""
    buffer = io.BytesIO()
    decoded(photographs()[-1]).resize((width, height)).save(buffer, format="JPEG", quality=95)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def decoded(encoded):
    return Image.open(io.BytesIO(encoded.tobytes())).convert("RGB")


def sizes(encoded):
    """Widths and heights, int64 [B] each."""
    return np.array([decoded(one).size for one in encoded]).T


def training_image(encoded, augmentation, number, image_size, interpolation="bilinear"):
    """Image `number` of a batch as float64 [3, H, W] in grey levels of 0 to 255."""
    (left, top), (width, height) = augmentation.anchor[number], augmentation.shape[number]
    image = functional.resized_crop(
        decoded(encoded), top, left, height, width, [image_size, image_size], InterpolationMode(interpolation)
    )
    if augmentation.colour is not None:
        for own, grey, mean in augmentation.colour[number].astype(float):
            if mean:
                image = functional.adjust_contrast(image, own)
            elif grey:
                image = functional.adjust_saturation(image, own)
            else:
                image = functional.adjust_brightness(image, own)
    if augmentation.mirror[number]:
        image = functional.hflip(image)
    return _pixels(image)


def evaluation_image(encoded, resize, image_size, interpolation="bilinear"):
    """The same for evaluation."""
    steps = transforms.Compose(
        [transforms.Resize(resize, InterpolationMode(interpolation)), transforms.CenterCrop(image_size)]
    )
    return _pixels(steps(decoded(encoded)))


def _pixels(image):
    return np.asarray(image, dtype=np.float64).transpose(2, 0, 1)
