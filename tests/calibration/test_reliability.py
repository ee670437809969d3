"""Calibration error, by hand and against scikit-learn's bins."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from ltrsys.calibration.reliability import NUM_BINS, bins

CONFIDENCE = np.random.default_rng(0).beta(4, 1, size=698)
CORRECT = np.random.default_rng(1).uniform(size=698) < CONFIDENCE**2


@pytest.mark.parametrize(("equal_mass", "strategy"), [(False, "uniform"), (True, "quantile")])
def test_the_bins_are_those_of_scikit_learn(equal_mass: bool, strategy: str) -> None:
    found = bins(CONFIDENCE, CORRECT, equal_mass=equal_mass)
    accuracy, confidence = calibration_curve(CORRECT, CONFIDENCE, n_bins=NUM_BINS, strategy=strategy)
    np.testing.assert_allclose(found.accuracy_B, accuracy)
    np.testing.assert_allclose(found.confidence_B, confidence)
    assert found.images_B.sum() == 698
    if equal_mass:
        assert found.images_B.max() - found.images_B.min() <= 1


def test_the_error_by_hand() -> None:
    # (0.2, 4/15]: confidence 0.25, one of two right; (0.9333, 1]: confidence 0.96, three of four right
    confidence = np.array([0.25, 0.25, 0.95, 0.95, 0.97, 0.97])
    correct = np.array([True, False, True, True, True, False])
    found = bins(confidence, correct, equal_mass=False)
    assert found.images_B.tolist() == [2, 4]
    assert found.calibration_error == pytest.approx(100 * (2 * 0.25 + 4 * 0.21) / 6)


def test_the_order_of_images_and_a_confidence_that_many_share_change_nothing() -> None:
    confidence = np.repeat([0.3, 0.6, 1.0], [20, 40, 100])
    correct = np.random.default_rng(2).uniform(size=160) < confidence
    order = np.random.default_rng(3).permutation(160)
    for equal_mass in (False, True):
        found = bins(confidence, correct, equal_mass=equal_mass)
        assert found.images_B.tolist() == [20, 40, 100], "images of one confidence stay together"
        moved = bins(confidence[order], correct[order], equal_mass=equal_mass)
        assert moved.calibration_error == pytest.approx(found.calibration_error)


def test_without_images_there_is_no_error_and_one_image_has_its_own() -> None:
    nothing = np.zeros(0)
    for equal_mass in (False, True):
        assert bins(nothing, nothing.astype(bool), equal_mass=equal_mass).calibration_error is None
        one = bins(np.array([0.8]), np.array([True]), equal_mass=equal_mass)
        assert one.calibration_error == pytest.approx(20)
