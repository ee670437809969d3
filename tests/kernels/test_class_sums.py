"""Class sums whose additions are exact: no order, block or thread shows in them."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from ltrsys.kernels import ClassSums, class_sums

ROWS, CLASSES, FEATURES = 3000, 11, 33


def bank(seed=0):
    """Features whose magnitudes differ by a million within a class, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(ROWS, FEATURES, generator=generator)
    features *= 10.0 ** torch.randint(-3, 4, (ROWS, 1), generator=generator)
    return features, torch.randint(0, CLASSES, (ROWS,), generator=generator)


def streamed(features, labels, cuts, **options):
    sums = ClassSums(CLASSES, FEATURES, num_rows=ROWS, largest=float(features.abs().max()), **options)
    for rows in np.split(np.arange(len(features)), cuts):
        sums.add(features[rows], labels[rows])
    return sums


@pytest.mark.parametrize("options", [{}, {"normalize": True}, {"center": torch.linspace(-1, 1, FEATURES)}], ids=str)
def test_blocks_order_and_threads_leave_no_trace(options):
    features, labels = bank()
    whole = streamed(features, labels, [], **options)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        shuffled = streamed(features[order], labels[order], [1, 17, 1000, 2999], **options)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(whole.sums_CD, shuffled.sums_CD)
    assert torch.equal(whole.counts_C, shuffled.counts_C)


def test_float64_added_as_it_comes_would_show_its_order():
    """The bank is one where it matters."""
    features, labels = bank()
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    sums = torch.zeros(CLASSES, FEATURES, dtype=torch.float64)
    again = sums.clone()
    sums.index_add_(0, labels, features.double())
    again.index_add_(0, labels[order], features[order].double())
    assert not torch.equal(sums, again)


def test_one_call_sums_like_many_blocks():
    features, labels = bank()
    sums, counts = class_sums(features, labels, CLASSES)
    many = streamed(features, labels, [100, 200, 2000])
    assert torch.equal(counts, many.counts_C)
    torch.testing.assert_close(sums, many.sums_CD.float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(many.means()[3], features[labels == 3].double().mean(dim=0), rtol=1e-6, atol=1e-6)


def test_the_sum_is_as_near_as_float32_can_tell():
    features, labels = bank()
    sums, _ = class_sums(features, labels, CLASSES)
    for class_id in range(CLASSES):
        exact = [float(sum(map(Fraction, column))) for column in features[labels == class_id].T.tolist()]
        np.testing.assert_allclose(sums[class_id].numpy(), np.float32(exact), rtol=2.0**-23, atol=1e-5)


def test_a_feature_larger_than_was_said_is_refused():
    sums = ClassSums(2, 3, num_rows=10, largest=1.0)
    with pytest.raises(ValueError, match=r"features reach 1\.5, above the 1 that the sums were made for"):
        sums.add(torch.full((2, 3), 1.5), torch.tensor([0, 1]))
    assert sums.counts_C.tolist() == [0, 0]
    with pytest.raises(ValueError, match="largest: say how large a feature can be"):
        ClassSums(2, 3, num_rows=10)


def test_more_rows_of_a_class_than_were_said_are_refused():
    """Their sum could need more bits than float64 has."""
    sums = ClassSums(2, 3, num_rows=10, largest=1.0)
    labels = torch.tensor([0, 1, 1, 1, 1, 1, 1])
    sums.add(torch.ones(7, 3), labels)
    with pytest.raises(ValueError, match=r"class 1 has 12 rows by now, above the num_rows=10 that the sums were made"):
        sums.add(torch.ones(7, 3), labels)
    assert sums.counts_C.tolist() == [1, 6]
    assert sums.sums_CD[:, 0].tolist() == [1.0, 6.0]


@pytest.mark.parametrize("largest", [math.nan, math.inf, -1.0])
def test_what_is_not_a_magnitude_is_refused(largest):
    with pytest.raises(ValueError, match=f"largest={largest} is not the magnitude of a feature"):
        ClassSums(2, 3, num_rows=10, largest=largest)
