import numpy as np

from ltrsys.pages.panels.look_alikes import most_confused


def test_pairs_are_counted_both_ways_and_the_rarer_comes_first() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4])
    predicted = np.array([1, 1, 0, 0, 1, 3, 2, 2, 3, 3, 4])
    assert most_confused(labels, predicted, 5, 10) == [(0, 1), (2, 3)]
    assert most_confused(labels, predicted, 5, 1) == [(0, 1)]
    assert most_confused(labels, labels, 5, 10) == []
    equal = most_confused(np.array([0, 0, 0, 1, 2, 3]), np.array([1, 0, 0, 1, 3, 3]), 4, 10)
    assert equal == [(2, 3), (0, 1)], "one image each, of 2 and of 4"
