"""Decision regions: what is drawn, read back from the figures."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ltrsys.reporting.decision_regions import Region, plot_decision_regions

FEATURES = np.array([[4.0, 0.0], [3.0, 1.0], [-2.0, 0.0], [-1.0, 1.0]], dtype=np.float32)
LABELS = np.array([0, 0, 1, 1])
WEIGHT = np.array([[3.0, 0.0], [-1.0, 0.0]], dtype=np.float32)


def right_of(boundary: float, weight: np.ndarray | None = None) -> Region:
    return Region(f"x > {boundary}", lambda points: (points[:, 0] <= boundary).astype(np.int64), weight)


def test_a_region_is_what_the_classifier_says_of_each_point(figures: list[Figure], tmp_path: Path) -> None:
    regions = [right_of(0.0, WEIGHT), right_of(2.0)]
    plot_decision_regions(regions, FEATURES, LABELS, ["a: 9", "b: 2"], "title", tmp_path / "plot.png")
    for axes, boundary in zip(figures[0].axes, (0.0, 2.0), strict=True):
        (image,) = axes.images
        left, right, bottom, top = image.get_extent()
        assert right - left == pytest.approx(top - bottom)
        assert left < min(FEATURES[:, 0])
        assert right > max(FEATURES[:, 0])
        columns = np.linspace(left, right, image.get_array().shape[1])
        np.testing.assert_array_equal(image.get_array()[0], columns <= boundary)
    dots = {line.get_label(): line.get_xydata() for line in figures[0].axes[0].lines}
    np.testing.assert_array_equal(dots["a: 9"], FEATURES[:2])
    np.testing.assert_array_equal(dots["b: 2"], FEATURES[2:])


def test_arrows_are_the_weight_vectors_of_one_scale(figures: list[Figure], tmp_path: Path) -> None:
    regions = [right_of(0.0, WEIGHT), right_of(2.0)]
    plot_decision_regions(regions, FEATURES, LABELS, ["a", "b"], "title", tmp_path / "plot.png")
    with_weights, without = figures[0].axes
    tips = np.array([text.xy for text in with_weights.texts])
    assert tips[0][0] > 0 > tips[1][0]
    np.testing.assert_allclose(tips[0] / tips[1][0], WEIGHT[0] / WEIGHT[1][0])
    assert not without.texts


def test_a_classifier_that_says_one_class_everywhere_is_drawn(figures: list[Figure], tmp_path: Path) -> None:
    plot_decision_regions([right_of(99.0)], FEATURES, LABELS, ["a", "b"], "title", tmp_path / "plot.png")
    assert np.unique(figures[0].axes[0].images[0].get_array()).tolist() == [1]
