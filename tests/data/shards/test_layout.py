"""Strata are exact bands of frequency, and any stretch of one holds each class in proportion."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrsys.data.shards.layout import band, class_bands, even_places, stratified_order

counts_of_classes = st.lists(st.integers(0, 60), min_size=1, max_size=30).filter(any)


def shuffled_labels(counts: list[int]) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return np.random.default_rng(0).permutation(labels)


def order_of(labels: np.ndarray, num_classes: int, *, bands_per_octave: int, seed: int):
    bands = class_bands(np.bincount(labels, minlength=num_classes), bands_per_octave)
    return stratified_order(labels, bands, even_places(labels, num_classes, seed=seed))


@given(st.integers(1, 10**9), st.integers(1, 16))
def test_a_band_is_the_floor_of_the_logarithm_exactly(count: int, bands_per_octave: int) -> None:
    found = band(count, bands_per_octave)
    assert 2**found <= count**bands_per_octave < 2 ** (found + 1)


def test_bands_hold_where_floating_point_would_not() -> None:
    for power in range(3, 60):
        assert band(2**power, 4) == 4 * power
        assert band(2**power - 1, 4) == 4 * power - 1
    assert math.floor(4 * math.log2(2**59 - 1)) == 4 * 59, "else this test shows nothing"


def test_a_class_without_image_has_no_band() -> None:
    assert class_bands(np.array([1, 0, 2, 16]), 4).tolist() == [0, -1, 4, 16]


@given(counts_of_classes, st.integers(1, 6), st.integers(0, 2**64 - 1))
@settings(deadline=None)
def test_the_order_is_a_permutation_and_strata_are_its_bands(counts: list[int], per_octave: int, seed: int) -> None:
    labels = shuffled_labels(counts)
    order, strata = order_of(labels, len(counts), bands_per_octave=per_octave, seed=seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    bands = class_bands(np.array(counts), per_octave)
    end = 0
    for stratum in strata:
        assert stratum.first == end
        end += stratum.samples
        assert set(bands[labels[order[stratum.first : end]]].tolist()) == {stratum.band}
    assert end == len(labels)
    assert [stratum.band for stratum in strata] == sorted({b for b in bands.tolist() if b >= 0})


@given(counts_of_classes, st.integers(0, 2**64 - 1), st.data())
@settings(deadline=None)
def test_every_stretch_holds_each_class_in_proportion_to_within_one(
    counts: list[int], seed: int, data: st.DataObject
) -> None:
    labels = shuffled_labels(counts)
    order, strata = order_of(labels, len(counts), bands_per_octave=1, seed=seed)
    stratum = data.draw(st.sampled_from(strata))
    placed = labels[order[stratum.first : stratum.first + stratum.samples]]
    present = np.unique(placed)
    # A prefix [0, x) of the stratum's unit interval holds each class x * n_j times, less or more by under one.
    length = data.draw(st.integers(0, len(placed)))
    held = np.bincount(placed[:length], minlength=len(counts))[present]
    of_class = np.array(counts)[present]
    least, most = ((held - 1) / of_class).max(), ((held + 1) / of_class).min()
    assert least <= most, "no point of the unit interval explains these counts"


def test_images_of_a_class_come_in_random_order() -> None:
    labels = np.zeros(1000, dtype=np.int32)
    order, _ = order_of(labels, 1, bands_per_octave=4, seed=1)
    other, _ = order_of(labels, 1, bands_per_octave=4, seed=2)
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.15
    assert not np.array_equal(order, other)


def test_the_order_never_changes() -> None:
    order, _ = order_of(np.array([0, 1, 0, 1, 0, 2], dtype=np.int32), 3, bands_per_octave=4, seed=7)
    # Written down once: shards built on another machine, or with a later numpy, must be the same.
    assert order.tolist() == [5, 3, 1, 2, 4, 0]
