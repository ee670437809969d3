"""Two classifiers on the same images, by hand."""

import numpy as np
import pytest

from ltrsys.comparison.pairs import Images, Side, compare
from ltrsys.metrics.accuracy import paired_test
from ltrsys.metrics.class_mean import difference_of_shares, paired_test_of_class_mean

IMAGES = Images(
    labels=np.repeat([0, 1, 2], [20, 10, 4]),
    shot_of_class=np.array(["many", "medium", "medium"]),
    names=["oak", "elm", "ash"],
    train_counts=np.array([500, 50, 30]),
)
FIRST = np.array([1] * 20 + [0] * 10 + [1, 1, 0, 0], dtype=bool)
SECOND = np.array([0] * 4 + [1] * 16 + [1] * 9 + [0] + [1, 1, 1, 0], dtype=bool)


def test_a_pair_says_what_was_gained_and_lost() -> None:
    pair = compare("joint", Side("a", FIRST), Side("b", SECOND), IMAGES)
    whole = paired_test(SECOND, FIRST)
    assert (pair.first, pair.second, pair.gained, pair.lost) == ("a", "b", 10, 4)
    assert pair.p_value == whole.p_value
    assert pair.mean_class_accuracy_p_value == paired_test_of_class_mean(IMAGES.labels, SECOND, FIRST, 3)
    assert pair.differences["few"] is None, "there is no few-shot class"
    assert pair.differences["many"].difference == pytest.approx(-20)
    assert pair.differences["medium"].difference == pytest.approx(100 * 10 / 14)
    assert pair.differences["all"].difference == pytest.approx(100 * 6 / 34)
    mean = pair.differences["mean_class_accuracy"]
    assert mean.difference == pytest.approx((-20 + 90 + 25) / 3)
    shares = difference_of_shares(IMAGES.labels, SECOND.astype(float), FIRST.astype(float), 3)
    assert (mean.difference, mean.low, mean.high) == pytest.approx(shares)
    for found in pair.differences.values():
        assert found is None or found.low < found.difference < found.high


def test_classes_are_named_by_how_much_they_changed() -> None:
    pair = compare("joint", Side("a", FIRST), Side("b", SECOND), IMAGES)
    assert (pair.classes_gained, pair.classes_lost, pair.classes_tested) == (2, 1, 3)
    assert [change.name for change in pair.most_gained] == ["elm", "ash"]
    (oak,) = pair.most_lost
    assert (oak.name, oak.train_images, oak.images, oak.gained, oak.lost) == ("oak", 500, 20, 0, 4)
    assert oak.p_value == pytest.approx(2 * 0.5**4)
    elm = pair.most_gained[0]
    assert elm.p_value == pytest.approx(2 * 0.5**9)
    assert elm.corrected_p_value == pytest.approx(3 * elm.p_value), "Holm: the smallest of three"


def test_the_same_twice_differs_nowhere() -> None:
    pair = compare("joint", Side("a", FIRST), Side("b", FIRST), IMAGES)
    assert (pair.gained, pair.lost, pair.p_value, pair.mean_class_accuracy_p_value) == (0, 0, 1.0, 1.0)
    assert (pair.classes_tested, pair.most_gained, pair.most_lost) == (0, [], [])
    assert pair.differences["all"].difference == 0
