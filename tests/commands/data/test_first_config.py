"""What a first config says follows from the paper's settings and the images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltrsys.commands.data.first_config import (
    assumed_images_per_second,
    choose_batch,
    choose_lanes,
    choose_retraining_batch,
    choose_shots,
    choose_sizes,
    epochs_in,
    group_sizes,
    linear_lr,
)
from ltrsys.metrics.config import ShotsConfig


@given(st.lists(st.integers(0, 2000), min_size=3, max_size=60))
def test_no_group_is_empty_where_the_counts_allow_it(counts):
    shots = choose_shots(np.array(counts))
    if len(set(counts)) < 3:
        assert shots is None
    else:
        assert shots is not None
        assert all(group_sizes(np.array(counts), shots))


def test_the_paper_s_thresholds_stay_where_they_do():
    assert choose_shots(np.array([500, 101, 100, 20, 19])) == ShotsConfig(many=100, few=20)
    assert choose_shots(np.array([500, 101, 19])) == ShotsConfig(many=101, few=101)


def test_thirds_of_the_classes_are_many_medium_and_few():
    assert group_sizes(np.arange(1, 31), choose_shots(np.arange(1, 31)) or ShotsConfig()) == (10, 10, 10)


@pytest.mark.parametrize(
    ("sides", "image_size", "resize"),
    [
        ([400, 500, 600], 224, 256), ([230] * 3, 224, 230), ([100] * 3, 96, 100), ([32] * 3, 32, 32),
        ([28, 28, 300], 28, 28),
    ],
)  # fmt: skip
def test_images_are_not_enlarged_and_large_ones_are_what_the_paper_has(sides, image_size, resize):
    sizes = choose_sizes(np.array(sides, dtype=np.uint16))
    assert (sizes.image_size, sizes.resize) == (image_size, resize)


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_a_batch_splits_over_the_ranks_and_fits_into_an_epoch(images, ranks):
    if images < ranks:
        return
    batch = choose_batch(images, ranks)
    assert 1 <= batch.of_a_rank <= 64
    assert batch.size % ranks == 0
    assert batch.size <= images
    assert choose_lanes(ranks) % ranks == 0


def test_eight_gpus_get_the_paper_s_batch_and_learning_rate():
    batch = choose_batch(115_846, 8)
    assert (batch.size, batch.of_a_rank, batch.lr) == (512, 64, 0.2)
    assert choose_batch(115_846, 1).lr == pytest.approx(0.2 / 8)
    assert linear_lr(256) == pytest.approx(0.1)  # as in configs/places_lt
    assert choose_batch(3000, 8).size == 128, "23 steps an epoch"


def test_the_second_stage_has_the_paper_s_batch_or_some_twenty_steps_an_epoch():
    assert choose_retraining_batch(115_846) == 512
    assert choose_retraining_batch(3000) == 128
    assert choose_retraining_batch(5) == 8


def test_epochs_follow_from_the_time_within_bounds():
    speed = assumed_images_per_second(8.2e9, gpus=2, cores=16)
    assert speed == pytest.approx(2 * assumed_images_per_second(8.2e9, gpus=1, cores=1))
    assert assumed_images_per_second(8.2e9, gpus=0, cores=16) < speed / 50
    assert epochs_in(10, 36_000, 100.0) == 100
    assert epochs_in(0.001, 36_000, 100.0) == 1
    assert epochs_in(1000, 36_000, 100.0) == 200
