import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from torchvision.transforms import RandomResizedCrop

from ltrsys.data.config import AugmentationConfig
from ltrsys.data.loading.augmentation import evaluation_augmentation, training_augmentation

EVERYTHING = AugmentationConfig(
    brightness=0.4,
    policy={"kind": "rand_augment", "operations": 3},
    blur={"probability": 0.5},
    erasing={"probability": 0.5},
)
JITTER = AugmentationConfig(brightness=0.4, contrast=0.4, saturation=0.4)
sides = st.integers(1, 65535)


def augment(config, positions, width=400, height=300, seed=0, epoch=0):
    positions = np.asarray(positions, dtype=np.int64)
    return training_augmentation(
        config,
        seed=seed,
        epoch=epoch,
        positions=positions,
        width=np.full(len(positions), width),
        height=np.full(len(positions), height),
        image_size=224,
    )


def assert_same(left, right):
    ours, theirs = left.arrays(), right.arrays()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])


def torchvision_crops(width, height, count, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """Left, top, width, height of torchvision's crops, [count, 4]."""
    image = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(count)]
    return np.array(drawn)[:, [1, 0, 3, 2]]


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20), st.integers(0, 2**63 - 1), st.integers(0, 1000))
@pytest.mark.long
def test_a_position_needs_no_other(positions, seed, epoch):
    together = augment(EVERYTHING, positions, seed=seed, epoch=epoch)
    assert together.arrays().keys() == {"geometry", "region", "colour", "operations", "blur", "erased"}
    for place, position in enumerate(positions):
        assert_same(augment(EVERYTHING, [position], seed=seed, epoch=epoch), together.part(place, place + 1))


def test_positions_epochs_and_seeds_all_matter():
    crops = [augment(JITTER, [k], seed=s, epoch=e).shape for k in range(3) for s in range(3) for e in range(3)]
    assert len(np.unique(np.concatenate(crops), axis=0)) == len(crops)


def test_the_same_on_every_machine():
    drawn = augment(JITTER, range(1000), width=437, height=291, seed=7, epoch=3)
    parts = [getattr(drawn, name).tobytes() for name in ("anchor", "shape", "mirror", "colour")]
    assert hashlib.sha256(b"".join(parts)).hexdigest()[:16] == "466256a01e76b5d0"
    later = augment(EVERYTHING, range(1000), width=437, height=291, seed=7, epoch=3)
    parts = [getattr(later, name).tobytes() for name in ("operations", "blur", "erased")]
    assert hashlib.sha256(b"".join(parts)).hexdigest()[:16] == "1b00d56e503300e8"


def test_neither_crop_nor_colour_depends_on_what_came_later():
    plain, all_of_it = augment(AugmentationConfig(brightness=0.4), range(50)), augment(EVERYTHING, range(50))
    for name, array in plain.arrays().items():
        np.testing.assert_array_equal(array, getattr(all_of_it, name))


def test_so_many_images_are_blurred_as_is_probable_and_by_every_sigma_alike():
    sigma = augment(AugmentationConfig(blur={"probability": 0.3, "min_sigma": 0.5, "max_sigma": 2.5}), range(9000)).blur
    assert 0.28 < (sigma > 0).mean() < 0.32
    assert kstest(sigma[sigma > 0], "uniform", args=(0.5, 2.0)).pvalue > 1e-3


def test_jitter_changes_neither_crop_nor_flip():
    plain, coloured = augment(AugmentationConfig(), range(100)), augment(JITTER, range(100))
    np.testing.assert_array_equal(plain.shape, coloured.shape)
    np.testing.assert_array_equal(plain.anchor, coloured.anchor)
    np.testing.assert_array_equal(plain.mirror, coloured.mirror)
    assert plain.colour is None


@given(sides, sides, st.floats(0.01, 1), st.floats(1, 3))
def test_a_crop_lies_within_its_image(width, height, min_area, aspect_ratio):
    config = AugmentationConfig(min_area=min_area, aspect_ratio=aspect_ratio)
    drawn = augment(config, range(8), width, height)
    assert (drawn.shape >= 1).all()
    assert (drawn.anchor >= 0).all()
    assert (drawn.anchor + drawn.shape <= [width, height]).all()


@pytest.mark.parametrize(("width", "height"), [(400, 300), (300, 400), (224, 224), (900, 300)])
@pytest.mark.long
def test_crops_are_distributed_as_torchvisions(width, height):
    drawn = augment(AugmentationConfig(), range(20_000), width, height)
    mine, theirs = np.concatenate([drawn.anchor, drawn.shape], axis=1), torchvision_crops(width, height, 5000)
    for one, other in zip(_describe(mine, width, height), _describe(theirs, width, height), strict=True):
        assert kstest(one, other).pvalue > 1e-3


def _describe(crops, width, height):
    """Area, log aspect ratio, and the place within the slack, of crops [N, 4]."""
    left, top, crop_width, crop_height = crops.T
    yield crop_width * crop_height
    yield np.log(crop_width / crop_height)
    yield left / np.maximum(width - crop_width, 1)
    yield top / np.maximum(height - crop_height, 1)


@pytest.mark.parametrize(
    ("width", "height", "aspect_ratio"),
    [(1000, 10, 4 / 3), (10, 1001, 4 / 3), (33, 50, 1.0), (51, 34, 1.0), (1, 9, 1.5)],
)
def test_where_no_crop_fits_it_is_torchvisions_central_one(width, height, aspect_ratio):
    config = AugmentationConfig(min_area=1, aspect_ratio=aspect_ratio)
    theirs = torchvision_crops(width, height, 1, scale=(1, 1), ratio=(1 / aspect_ratio, aspect_ratio))
    drawn = augment(config, range(3), width, height)
    np.testing.assert_array_equal(np.concatenate([drawn.anchor, drawn.shape], axis=1), np.repeat(theirs, 3, axis=0))


def test_no_crop_of_a_square_is_the_whole_image():
    drawn = augment(AugmentationConfig(min_area=1, aspect_ratio=1), range(100), 32, 32)
    assert (drawn.anchor == 0).all()
    assert (drawn.shape == 32).all()


def test_half_of_the_images_are_mirrored_unless_flip_is_off():
    assert 0.48 < augment(AugmentationConfig(), range(10_000)).mirror.mean() < 0.52
    assert not augment(AugmentationConfig(flip=False), range(100)).mirror.any()


def test_colour_factors_are_uniform_and_come_in_every_order_alike():
    colour = augment(AugmentationConfig(brightness=0.4, contrast=0.2, saturation=0.1), range(12_000)).colour
    kind = np.where(colour[:, :, 2] != 0, 1, np.where(colour[:, :, 1] != 0, 2, 0))
    orders, counts = np.unique(kind, axis=0, return_counts=True)
    assert len(orders) == 6
    assert chisquare(counts).pvalue > 1e-3
    for number, spread in enumerate((0.4, 0.2, 0.1)):
        factor = colour[:, :, 0][kind == number]
        assert len(factor) == 12_000
        assert kstest(factor, "uniform", args=(1 - spread, 2 * spread)).pvalue > 1e-3
    # contrast and saturation leave a uniformly grey image as it is
    np.testing.assert_allclose(colour[kind > 0].sum(axis=1), 1, atol=1e-6)


@given(sides, sides, st.integers(1, 300), st.integers(0, 200))
def test_the_evaluation_window_lies_within_its_image_and_holds_the_region(width, height, image_size, border):
    size = np.array([[width, height]])
    done = evaluation_augmentation(size[:, 0], size[:, 1], resize=image_size + border, image_size=image_size)
    assert (done.anchor >= 0).all()
    assert (done.shape >= 1).all()
    assert (done.anchor + done.shape <= size).all()
    assert (done.region >= 0).all()
    assert (done.region[:, 1] <= done.shape[:, ::-1] * (1 + 1e-6)).all()
    assert not done.mirror.any()
    assert done.colour is None
