"""The mean over the classes, its interval, and its paired test."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, permutation_test

from ltrsys.metrics.accuracy import paired_test, percentage, score
from ltrsys.metrics.class_mean import (
    DRAWS,
    difference_of_shares,
    interval_of_class_mean,
    mean_class_accuracy,
    paired_test_of_class_mean,
)

TAIL = np.maximum(1, np.round(120 * (2 / 984) ** (np.arange(99) / 98))).astype(np.int64)
"""Test images of 99 classes with the frequencies of their training images, 984 down to 2."""


def test_each_class_counts_once() -> None:
    labels, predictions = np.array([0] * 8 + [1] * 2), np.array([0] * 10)
    assert mean_class_accuracy(labels, predictions, 3) == 50.0  # the class without an image does not count
    assert mean_class_accuracy(labels[:0], predictions[:0], 3) is None


@settings(max_examples=100)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_on_a_balanced_split_it_is_the_accuracy_to_the_last_bit(
    num_classes: int, size: int, data: st.DataObject
) -> None:
    labels = np.repeat(np.arange(num_classes), size)
    predictions = np.array(
        data.draw(st.lists(st.integers(0, num_classes - 1), min_size=len(labels), max_size=len(labels)))
    )
    assert mean_class_accuracy(labels, predictions, num_classes) == percentage(labels == predictions)
    assert score(labels, predictions, num_classes, "accuracy") == score(
        labels, predictions, num_classes, "mean_class_accuracy"
    )


def test_equally_good_predictions_are_equal_whichever_classes_they_are_good_at() -> None:
    labels = np.repeat(np.arange(30), 7)
    for seed in range(50):
        random = np.random.default_rng(seed)
        values = {
            mean_class_accuracy(labels, np.where(random.permutation(np.arange(210) < 100), labels, -1), 30)
            for _ in range(4)
        }
        assert values == {100 * 100 / 210}


def recognised(
    sizes: NDArray[np.int64], share_of_class: NDArray[np.float64], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return labels, np.random.default_rng(seed).random(len(labels)) < share_of_class[labels]


@pytest.mark.long
@pytest.mark.parametrize("sizes", [np.full(60, 3), TAIL], ids=["three_of_each", "natural_tail"])
def test_the_interval_holds_in_19_of_20_samples(sizes: NDArray[np.int64]) -> None:
    share_of_class = np.linspace(0.95, 0.2, len(sizes))
    truth, samples, held = 100 * share_of_class.mean(), 300, 0
    for seed in range(samples):
        low, high = interval_of_class_mean(*recognised(sizes, share_of_class, seed), len(sizes)) or (0, 0)
        held += low <= truth <= high
    # one in 10,000 sets of samples would lie further off
    assert binom.ppf(5e-5, samples, 0.95) <= held <= binom.ppf(1 - 5e-5, samples, 0.95)


@pytest.mark.long
def test_the_interval_is_that_of_resampled_images() -> None:
    sizes = np.array([40, 12, 12, 5, 2, 1, 1, 1])
    labels, correct = recognised(sizes, np.linspace(0.9, 0.4, 8), seed=3)
    random, means = np.random.default_rng(0), []
    classes = [np.flatnonzero(labels == label) for label in range(5)] + [np.flatnonzero(labels >= 5)]
    for _ in range(20_000):
        drawn = [correct[random.choice(images, len(images) - 1)].mean() for images in classes]
        means.append((sum(drawn[:5]) + 3 * drawn[5]) / 8)
    low, high = interval_of_class_mean(labels, correct, 8) or (0, 0)
    # by what the ends of such an interval differ between sets of draws: the distribution has steps of a few per cent
    assert (low, high) == pytest.approx(tuple(100 * np.percentile(means, [2.5, 97.5])), abs=1.0)
    assert (low, high) == interval_of_class_mean(labels, correct, 8), "the same at every call"


def test_the_interval_of_what_does_not_vary_is_a_point() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert interval_of_class_mean(labels, labels < 9, 4) == (100, 100)
    assert interval_of_class_mean(labels, labels > 9, 4) == (0, 0)
    assert interval_of_class_mean(labels, labels == 2, 4) == pytest.approx((100 / 3, 100 / 3))
    assert interval_of_class_mean(labels[:0], labels[:0] == 1, 4) is None


def test_on_a_balanced_split_the_test_is_mcnemars() -> None:
    labels = np.repeat(np.arange(20), 6)
    for seed in range(20):
        random = np.random.default_rng(seed)
        correct, reference = random.random(120) < 0.7, random.random(120) < 0.55
        assert paired_test_of_class_mean(labels, correct, reference, 20) == paired_test(correct, reference).p_value


def difference(weights: NDArray[np.float64], correct: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    return float((weights * correct).sum() - (weights * reference).sum())


@pytest.fixture
def small() -> Iterator[tuple[np.ndarray, ...]]:
    """Eleven images of four classes, of which nine tell the two classifiers apart."""
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
    correct = np.array([1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1], dtype=np.bool_)
    reference = np.array([0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0], dtype=np.bool_)
    return labels, correct, reference


def test_the_test_is_that_of_all_flips(small: tuple[np.ndarray, ...]) -> None:
    labels, correct, reference = small
    weights = 1 / np.bincount(labels)[labels]
    observed = difference(weights, correct, reference)
    flips = [
        difference(weights, np.where(flip, reference, correct), np.where(flip, correct, reference))
        for flip in product([False, True], repeat=len(labels))
    ]
    exact = np.mean(np.abs(flips) >= abs(observed) - 1e-12)
    ours = paired_test_of_class_mean(labels, correct, reference, 4)
    four_deviations = 4 * np.sqrt(exact * (1 - exact) / DRAWS)
    assert ours == pytest.approx(exact, abs=four_deviations + 1 / DRAWS)
    scipys = permutation_test(
        (weights * correct, weights * reference),
        lambda one, other, axis: one.sum(axis=axis) - other.sum(axis=axis),
        permutation_type="samples", n_resamples=np.inf, vectorized=True,
    )  # fmt: skip
    assert scipys.pvalue == pytest.approx(exact)
    assert paired_test_of_class_mean(labels, reference, correct, 4) == pytest.approx(ours, abs=four_deviations)


def test_classifiers_that_agree_are_not_told_apart_and_no_p_value_is_zero(small: tuple[np.ndarray, ...]) -> None:
    labels, correct, _ = small
    assert paired_test_of_class_mean(labels, correct, correct, 4) == 1.0
    labels = np.repeat(np.arange(99), TAIL)
    p_value = paired_test_of_class_mean(labels, labels >= 0, labels < 0, 99)
    assert p_value == 1 / (DRAWS + 1)


@pytest.mark.long
@pytest.mark.parametrize("heterogeneous", [False, True], ids=["equal_on_each_image", "equal_in_the_mean"])
def test_the_test_finds_a_difference_where_there_is_none_in_one_of_20_samples_at_most(heterogeneous: bool) -> None:
    share_of_class = np.linspace(0.9, 0.3, 99)
    others = share_of_class + (np.linspace(-0.1, 0.1, 99) if heterogeneous else 0)
    samples, found = 300, 0
    for seed in range(samples):
        labels, correct = recognised(TAIL, share_of_class, seed)
        _, reference = recognised(TAIL, others, 10_000 + seed)
        found += paired_test_of_class_mean(labels, correct, reference, 99) <= 0.05
    # one in 10,000 sets of samples would lie further off
    assert found <= binom.ppf(1 - 5e-5, samples, 0.05)
    assert heterogeneous or found >= binom.ppf(5e-5, samples, 0.05)


def test_a_difference_is_that_of_the_mean_class_accuracies_and_its_interval_that_of_strata() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    shares = np.array([1.0, 1.0, 0.5, 0.0, 1.0, 0.0, 1.0])
    others = np.array([0.0, 1.0, 0.0, 0.0, 0.5, 0.0, 1.0])
    difference, low, high = difference_of_shares(labels, shares, others, 4)
    gains = [np.array([1.0, 0.0, 0.5, 0.0]), np.array([0.5, 0.0])]
    variance = sum(gain.var(ddof=1) / len(gain) for gain in gains) / 3**2
    assert difference == pytest.approx(100 * (0.375 + 0.25 + 0.0) / 3)
    assert high - difference == pytest.approx(100 * 1.959964 * variance**0.5) == difference - low
    assert difference_of_shares(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), 4) is None


@pytest.mark.parametrize("per_class", [1, 3, 20])
def test_the_interval_of_a_difference_holds_in_19_of_20_samples(per_class: int) -> None:
    draws = np.random.default_rng(5)
    ours, theirs = draws.uniform(0.2, 0.9, 150), draws.uniform(0.2, 0.9, 150)
    labels = np.repeat(np.arange(150), per_class)
    held = 0
    for _ in range(400):
        common = draws.uniform(size=len(labels))  # so that both are right or wrong together more often than not
        shares = np.mean([common < ours[labels], draws.uniform(size=len(labels)) < ours[labels]], axis=0)
        difference = difference_of_shares(labels, shares, (common < theirs[labels]).astype(float), 150)
        assert difference is not None
        held += difference[1] <= 100 * (ours - theirs).mean() <= difference[2]
    assert held >= 0.93 * 400
