"""Paired tests class by class, and Holm's correction."""

import numpy as np
import pytest
from scipy.stats import binomtest

from ltrsys.metrics.by_class import holm, paired_tests_by_class


def test_each_class_has_mcnemars_exact_test() -> None:
    labels = np.repeat([0, 1, 2, 3], [8, 10, 5, 0])
    correct = np.array([1] * 8 + [1, 1, 0] + [1] * 7 + [1] * 5, dtype=bool)
    reference = np.array([0] * 8 + [0, 0, 1] + [1] * 7 + [1] * 5, dtype=bool)
    found = paired_tests_by_class(labels, correct, reference, 4)
    assert found[0] == pytest.approx(binomtest(8, 8).pvalue)
    assert found[1] == pytest.approx(binomtest(2, 3).pvalue)
    assert np.isnan(found[2:]).all(), "no image tells them apart, and a class without images"


def test_holm_steps_down() -> None:
    # by hand: 0.01 * 4, 0.02 * 3, then 0.03 * 2 no smaller than what came before, 0.9
    found = holm(np.array([0.9, 0.01, np.nan, 0.03, 0.02]))
    assert found[[0, 1, 3, 4]] == pytest.approx([0.9, 0.04, 0.06, 0.06])
    assert np.isnan(found[2])
    assert holm(np.array([0.7, 0.8])).tolist() == [1.0, 1.0]
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_by_chance_alone_hardly_any_class_is_below_five_per_cent() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(50), 40)
    hits = 0
    for _ in range(100):
        both = random.random((2, len(labels))) < 0.5
        hits += bool((holm(paired_tests_by_class(labels, both[0], both[1], 50)) < 0.05).any())
    assert hits <= 10, "5 % of the experiments are allowed"
