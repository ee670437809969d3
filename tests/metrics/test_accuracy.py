"""Accuracy by shot, intervals and paired tests."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from ltrsys.metrics.accuracy import (
    accuracy_by_column,
    accuracy_by_shot,
    class_accuracy,
    evaluate_ranking,
    paired_test,
    score,
    shot_of_class,
    wilson_interval,
)
from ltrsys.metrics.config import ShotsConfig


def test_the_borders_of_the_shots_are_the_papers() -> None:
    shots = shot_of_class(np.array([101, 100, 20, 19, 0]), ShotsConfig())
    assert shots.tolist() == ["many", "medium", "medium", "few", "few"]


def test_all_is_the_mean_over_images_not_over_shots() -> None:
    shots = np.array(["many", "few"])
    labels, predictions = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0])
    accuracy = accuracy_by_shot(labels, predictions, shots)
    assert accuracy == {"many": pytest.approx(200 / 3), "medium": None, "few": 0.0, "all": 50.0}


def test_no_images_have_no_accuracy() -> None:
    none = np.array([], dtype=np.int64)
    assert set(accuracy_by_shot(none, none, np.array(["many"])).values()) == {None}
    measured = evaluate_ranking(none, none.reshape(0, 1), np.array(["many"]))
    assert measured.top5 is None
    assert measured.mean_class_accuracy is None
    assert measured.confidence_95["all"] is None
    assert measured.confidence_95["mean_class_accuracy"] is None


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1))
def test_the_shots_add_up_to_all(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(pairs).T
    shots = np.array(["many", "many", "medium", "few", "few", "few"])
    accuracy = accuracy_by_shot(labels, predictions, shots)
    images = {shot: int((shots[labels] == shot).sum()) for shot in ("many", "medium", "few")}
    right = sum(count * accuracy[shot] / 100 for shot, count in images.items() if count)
    assert right == pytest.approx(len(labels) * accuracy["all"] / 100)
    assert all((accuracy[shot] is None) == (count == 0) for shot, count in images.items())


def test_the_mean_counts_each_class_once_and_all_each_image() -> None:
    labels, predictions = np.array([0] * 8 + [1] * 2), np.array([0] * 10)
    by_column = accuracy_by_column(labels, predictions, np.array(["many", "few", "few"]))
    assert by_column == {"many": 100.0, "medium": None, "few": 0.0, "all": 80.0, "mean_class_accuracy": 50.0}
    assert score(labels, predictions, 3, "accuracy") == 80.0
    assert score(labels, predictions, 3, "mean_class_accuracy") == 50.0
    by_class = class_accuracy(labels, labels == predictions, 3)
    np.testing.assert_array_equal(by_class, [100.0, 0.0, np.nan])


def test_top_3_and_top_5_look_further_down_the_ranking() -> None:
    ranking = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [1, 2, 3, 0, 4], [1, 2, 3, 4, 5]])
    measured = evaluate_ranking(np.zeros(4, dtype=np.int64), ranking, np.array(["many"] * 6))
    assert (measured.accuracy["all"], measured.top3, measured.top5) == (25.0, 50.0, 75.0)


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (8, 10), (10, 10), (81, 263), (17000, 24426)])
def test_the_interval_is_wilsons(correct: int, total: int) -> None:
    share, z = correct / total, NormalDist().inv_cdf(0.975)
    middle = share + z**2 / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    low, high = (100 * end / (1 + z**2 / total) for end in (middle - spread, middle + spread))
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=1e-12)


def test_the_interval_holds_in_19_of_20_samples() -> None:
    total, share = 60, 0.3
    held = [(low := wilson_interval(c, total))[0] <= 100 * share <= low[1] for c in range(total + 1)]
    assert binom.pmf(np.arange(total + 1), total, share)[held].sum() == pytest.approx(0.95, abs=0.02)


def test_the_paired_test_looks_only_at_images_that_differ() -> None:
    # 10 against 2 discordant images: 2 (C(12,0) + C(12,1) + C(12,2)) / 2**12
    gained, lost = np.array([True] * 10), np.array([False] * 2)
    both = np.ones(100, dtype=np.bool_)
    correct = np.concatenate([gained, lost, both])
    reference = np.concatenate([~gained, ~lost, both])
    test = paired_test(correct, reference)
    assert (test.gained, test.lost) == (10, 2)
    assert test.p_value == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert paired_test(reference, correct).p_value == pytest.approx(test.p_value)


def test_classifiers_that_agree_are_not_told_apart() -> None:
    correct = np.array([True, False, True])
    assert paired_test(correct, correct).p_value == 1.0
