"""Which rectangle is erased: as torchvision's `RandomErasing` draws it."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import RandomErasing

from ltrsys.data.config import ErasingConfig
from ltrsys.data.loading.erasing import rectangles

SIDE = 224


def draw(count=4000, *, first=0, side=SIDE, **config):
    erasing = ErasingConfig(**({"probability": 1.0} | config))
    return rectangles(erasing, seed=0, epoch=0, positions=first + np.arange(count), image_size=side)


def test_rectangles_are_distributed_as_torchvisions():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.empty(3, SIDE, SIDE)
        theirs = [RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3))[:4] for _ in range(4000)]
    ours = draw(aspect_ratio=3.3)
    for part, expected in zip(ours.T, np.array(theirs).T, strict=True):
        # theirs are 0.3 to 3.3 high for their width, ours 1/3.3 to 3.3
        assert ks_2samp(part, expected).pvalue > 1e-3


@pytest.mark.parametrize("config", [{}, {"min_area": 0.9, "max_area": 1.0}, {"aspect_ratio": 100.0}], ids=str)
def test_they_lie_within_the_image(config):
    corner, shape = np.split(draw(side=15, **config), 2, axis=1)
    assert (corner >= 0).all()
    assert (corner + shape <= 15).all()
    assert (shape < 15).all(), "torchvision leaves a row and a column"
    assert ((shape > 0).all(axis=1) | (shape == 0).all(axis=1)).all()


def test_so_many_images_lose_one_as_is_probable():
    erased = draw(10_000, probability=0.25)[:, 2] > 0
    assert 0.23 < erased.mean() < 0.27
    assert np.array_equal(draw(10_000)[erased], draw(10_000, probability=0.25)[erased]), "which, not where"


def test_a_position_needs_no_other():
    assert np.array_equal(draw(5, first=703), draw(1000)[703:708])
