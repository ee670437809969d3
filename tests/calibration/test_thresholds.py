"""Thresholds of confidence: the curve, what is shown, and how often that is wrong."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from ltrsys.calibration.thresholds import ERROR, PrecisionCurve


def test_the_curve_counts_what_is_above_each_threshold() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(size=5000).round(3)  # so that some are equal
    correct = random.uniform(size=5000) < confidence
    curve = PrecisionCurve.of(confidence, correct)
    assert 150 < len(curve.threshold_K) <= 256
    assert (np.diff(curve.threshold_K) < 0).all()
    assert (curve.threshold_K[-1], curve.images_K[-1]) == (0.0, 5000)
    assert (curve.images_K[1:-1] <= 1.05 * curve.images_K[:-2] + 10).all(), "no wide gaps"
    for threshold, images, right in zip(curve.threshold_K, curve.images_K, curve.right_K, strict=True):
        assert (images, right) == ((confidence >= threshold).sum(), correct[confidence >= threshold].sum())


def test_a_threshold_is_given_where_the_exact_test_shows_the_precision() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(size=20000)
    correct = random.uniform(size=20000) < confidence
    curve = PrecisionCurve.of(confidence, correct)
    for precision in (0.6, 0.8, 0.9, 0.95):
        threshold = curve.first(precision)
        above = correct[confidence >= threshold]
        assert binomtest(int(above.sum()), len(above), precision, alternative="greater").pvalue <= ERROR / 5
        assert above.mean() > precision
        # of what is uniform and right as often as sure, the mean above t is (1 + t) / 2
        assert threshold == pytest.approx(2 * precision - 1, abs=0.06)


def test_what_is_shown_is_wrong_in_no_more_than_one_of_twenty_calibration_sets() -> None:
    """Answers above any threshold are right as often as not 90 %, but hardly more rarely: every threshold is a lie."""
    random = np.random.default_rng(4)
    trials, images, wanted = 600, 800, 0.9
    wrong = 0
    for _ in range(trials):
        curve = PrecisionCurve.of(random.uniform(size=images), random.uniform(size=images) < wanted - 1e-4)
        wrong += curve.first(wanted) is not None
    assert wrong <= binom.ppf(1 - 1e-6, trials, ERROR)
    assert wrong > 0, "it is no empty promise: some searches are misled"


def test_a_raw_share_of_few_images_is_no_evidence() -> None:
    confidence = np.linspace(0.99, 0.01, 1000)
    correct = np.arange(1000) < 30  # the surest thirty are right, the others wrong
    curve = PrecisionCurve.of(confidence, correct)
    assert curve.first(0.99) is None
    assert "no threshold shows a precision of 0.99" in curve.why_not(0.99)
    assert curve.first(0.8) == pytest.approx(confidence[29], abs=0.02)


def test_one_mistake_among_the_surest_ends_one_search_and_not_all() -> None:
    confidence = np.linspace(1.0, 0.0, 2000)
    correct = np.ones(2000, dtype=bool)
    correct[[0, 1, 2]] = False
    curve = PrecisionCurve.of(confidence, correct)
    assert curve.first(0.95) == 0.0, "of all images 99.85 % are right"


def test_a_precision_that_cannot_be_shown_says_why() -> None:
    right = PrecisionCurve.of(np.full(30, 0.9), np.ones(30, dtype=bool))
    assert right.first(0.95) is None
    assert right.why_not(0.95) == "a precision of 0.95 cannot be shown on 30 images: it takes 90 to show it."
    assert right.first(1.0) is None
    assert "no number of images shows it" in right.why_not(1.0)
    assert right.first(0.5) == 0.0
    assert right.first(0.0) == 0.0


@pytest.mark.parametrize("images", [0, 1])
def test_hardly_any_images_show_nothing(images: int) -> None:
    curve = PrecisionCurve.of(np.full(images, 0.9), np.ones(images, dtype=bool))
    assert curve.first(0.9) is None
    assert f"on {images} images" in curve.why_not(0.9)


def test_images_of_one_confidence_are_answered_together() -> None:
    correct = np.random.default_rng(0).uniform(size=3000) < 0.97
    curve = PrecisionCurve.of(np.repeat([0.9, 0.4], [2000, 1000]), correct)
    assert curve.threshold_K.tolist() == [0.9, 0.0]
    assert curve.images_K.tolist() == [2000, 3000]
