"""What DALI makes of an image against torchvision's v2 transforms, in grey levels."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ltrsys.data.config import AugmentationConfig, DataConfig
from ltrsys.data.loading.augmentation import Augmentation
from ltrsys.data.loading.pipeline import ImagePipeline
from ltrsys.data.loading.policies import operation_table
from tests.data.reference import decoded, photographs

SIDE = 96
PHOTOGRAPHS = [functional.resize(functional.pil_to_tensor(decoded(one)), [SIDE, SIDE]) for one in photographs()[:4]]
FLAT = [torch.full((3, SIDE, SIDE), level, dtype=torch.uint8) for level in (0, 77, 255)]
IMAGES = [*PHOTOGRAPHS, *FLAT]
COUNT = len(IMAGES)
THEIRS = {
    "rand_augment": v2.RandAugment(),
    "trivial_augment": v2.TrivialAugmentWide(),
}
LEVELS = (0, 9, 17, 29)
"""Not 20 and 30: shears by multiples of 0.1 hit the middle between two pixels, and either is the nearest."""
NAMES = list(v2.RandAugment._AUGMENTATION_SPACE)
BOUNDS = {"Brightness": 0.25, "Color": 0.6, "Contrast": 1.0, "Sharpness": 0.3, "Equalize": 0.6, "Rotate": 0.3}
"""Mean absolute difference of an image, where numbers are rounded otherwise: torchvision cuts 1.6 * 5 in float32 to 7,
and does not round grey values. It sharpens no pixel of the border. Few
pixels lie in the middle between two when an image is turned."""


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


ENCODED = [png(image) for image in IMAGES]


ASKED = {
    "operations": {"policy": {"kind": "trivial_augment"}},
    "blur": {"blur": {"probability": 1.0}},
    "erased": {"erasing": {"probability": 1.0}},
}
"""What in `data.augmentation` makes a pipeline take each array."""


@pytest.fixture(scope="module")
def made():
    """Return what is made of the images, in this order."""
    opened = {}

    def pipeline_of(name):
        if name not in opened:
            config = DataConfig(
                shards=".", threads=2, image_size=SIDE, mean=[0.0] * 3, std=[1 / 255] * 3,
                augmentation=AugmentationConfig.model_validate(ASKED[name]),
            )  # fmt: skip
            opened[name] = ImagePipeline(config, batch_size=COUNT, device=torch.device("cpu"), training=True)
        return opened[name]

    def make(order=range(COUNT), mirror=0, encoded=ENCODED, **arrays):
        (name,) = arrays
        pipeline, order = pipeline_of(name), list(order)
        geometry = np.tile(np.array([[0, 0, SIDE, SIDE, mirror]], np.int32), (len(order), 1))
        region = np.tile(np.array([[[0, 0], [SIDE, SIDE]]], np.float32), (len(order), 1, 1))
        array = np.asarray(arrays[name], np.float32)[order]
        pipeline.feed([encoded[number] for number in order], Augmentation(geometry, region, **{name: array}))
        return pipeline.take()

    yield make
    for pipeline in opened.values():
        pipeline.close()


def difference(images, expected):
    """Of the image where it is largest."""
    return float((images - torch.stack(list(expected)).float()).abs().mean(dim=(1, 2, 3)).max())


@pytest.mark.parametrize("policy", THEIRS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.long
def test_operations_are_those_of_torchvision(made, policy, name):
    theirs = THEIRS[policy]
    magnitudes, signed = theirs._AUGMENTATION_SPACE[name]
    levels = magnitudes(31, SIDE, SIDE)
    table = operation_table(policy == "trivial_augment", SIDE)
    for level in LEVELS:
        for place, sign in enumerate((1, -1)):
            magnitude = 0.0 if levels is None else float(levels[level]) * (sign if signed else 1)
            expected = [
                theirs._apply_image_or_video_transform(image, name, magnitude, theirs.interpolation, theirs._fill)
                for image in IMAGES
            ]
            rows = np.tile(table[NAMES.index(name), level, place, 0], (COUNT, 1, 1))
            images, photographs = made(operations=rows), len(PHOTOGRAPHS)
            bound = BOUNDS.get(name, 0.1)
            assert difference(images[:photographs], expected[:photographs]) < bound, (level, sign)
            assert difference(images[photographs:], expected[photographs:]) <= 1, "all pixels are rounded alike"


@pytest.mark.parametrize("name", NAMES)
def test_they_act_on_what_is_mirrored_already_as_in_torchvision(made, name):
    table = operation_table(False, SIDE)[NAMES.index(name), 9, 0]
    mirrored_before = [png(functional.horizontal_flip(image)) for image in IMAGES]
    expected = made(encoded=mirrored_before, operations=np.tile(table[0], (COUNT, 1, 1)))
    assert difference(made(mirror=1, operations=np.tile(table[1], (COUNT, 1, 1))), expected) < 0.25, "but for rounding"


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0, 5.0])
def test_blur_is_that_of_torchvision(made, sigma):
    window = [2 * int(np.ceil(3 * sigma)) + 1] * 2
    expected = [functional.gaussian_blur(image, window, [sigma] * 2) for image in IMAGES]
    assert difference(made(blur=[sigma] * COUNT), expected) < 0.01


def test_erased_pixels_are_zero_and_no_others(made):
    rectangles = np.array([[10, 20, 30, 40], [0, 0, 0, 0], *[[0, 0, SIDE - 1, SIDE - 1]] * (COUNT - 2)])
    zero = torch.zeros(1, dtype=torch.uint8)
    expected = [functional.erase(image, *box.tolist(), zero) for image, box in zip(IMAGES, rectangles, strict=True)]
    assert difference(made(erased=rectangles), expected) == 0


def test_an_image_is_what_it_is_alone_whatever_is_done_to_others(made):
    table = operation_table(True, SIDE)
    rows = np.stack([table[[kind, 13 - kind], 17, 0, 0] for kind in range(COUNT)])[:, :1]
    together = made(operations=rows)
    for number in range(COUNT):
        assert torch.equal(made([number], operations=rows)[0], together[number])
    sigmas = np.where(np.arange(COUNT) % 2, 1.5, 0)
    blurred = made(blur=sigmas)
    assert torch.equal(made([2, 1], blur=sigmas), blurred[[2, 1]])
    assert torch.equal(blurred[2], IMAGES[2].float())
