"""The cut keeps as many images of each class as the curve says, and never invents one."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltrsys.data.index.records import ClassRecord
from ltrsys.data.sources.long_tail import Curve, assign_counts, curve_counts, cut, cut_to_long_tail
from ltrsys.data.sources.source import FileReader, Items, Source
from ltrsys.errors import DataError, UsageError


def balanced(num_classes: int = 6, per_class: int = 50) -> Source:
    labels = np.repeat(np.arange(num_classes, dtype=np.int32), per_class)
    train = Items([f"image {place}" for place in range(len(labels))], labels)
    classes = [ClassRecord(name=f"c{label}") for label in range(num_classes)]
    return Source("folder", "balanced", classes, {"train": train, "val": train}, FileReader(Path()))


@given(
    st.sampled_from(["pareto", "exponential"]),
    st.integers(2, 500),
    st.integers(1, 50),
    st.integers(0, 2000),
    st.floats(0.1, 8),
)
def test_a_curve_falls_from_most_to_least(curve: Curve, num_classes: int, least: int, more: int, power: float) -> None:
    counts = curve_counts(curve, num_classes, max_count=least + more, min_count=least, pareto_power=power)
    assert (counts[0], counts[-1]) == (least + more, least)
    assert np.all(np.diff(counts) <= 0)


def test_the_exponential_curve_falls_by_one_factor_and_pareto_becomes_it() -> None:
    assert curve_counts("exponential", 5, max_count=1600, min_count=100).tolist() == [1600, 800, 400, 200, 100]
    nearly = curve_counts("pareto", 5, max_count=1600, min_count=100, pareto_power=1e-6)
    assert nearly.tolist() == [1600, 800, 400, 200, 100]


def test_pareto_counts_are_the_quantiles_of_the_truncated_distribution() -> None:
    counts = curve_counts("pareto", 100_001, max_count=10_000, min_count=10, pareto_power=2.0)
    for threshold in (12, 20, 50):
        share = np.mean(counts > threshold + 0.5)
        expected = ((threshold + 1) ** -2.0 - 1e-8) / (1e-2 - 1e-8)
        assert share == pytest.approx(expected, rel=0.1)


def test_the_class_with_more_images_comes_first_on_the_curve() -> None:
    counts = assign_counts(np.array([40, 20, 10]), np.array([15, 100, 30]), seed=3)
    assert counts.tolist() == [10, 40, 20]
    assert assign_counts(np.array([40, 20, 10]), np.array([7, 100, 12]), seed=3).tolist() == [7, 40, 12]


def test_equal_classes_are_ranked_by_the_seed() -> None:
    orders = {tuple(assign_counts(np.arange(9, 0, -1), np.full(9, 9), seed=seed)) for seed in range(5)}
    assert len(orders) == 5


@given(st.lists(st.integers(0, 50), min_size=6, max_size=6), st.integers(0, 2**64 - 1))
def test_a_cut_keeps_the_count_and_the_order_of_each_class(counts: list[int], seed: int) -> None:
    items = balanced().splits["train"]
    kept = cut(items, np.array(counts), seed=seed)
    assert np.bincount(kept.labels, minlength=6).tolist() == counts
    places = [items.names.index(name) for name in kept.names]
    assert places == sorted(set(places))
    assert [items.labels[place] for place in places] == kept.labels.tolist()


def test_a_cut_is_random_and_repeatable_and_leaves_other_splits_alone() -> None:
    source = balanced()
    first, again, other = (cut_to_long_tail(source, "exponential", seed=seed) for seed in (1, 1, 2))
    assert first.splits["train"].names == again.splits["train"].names != other.splits["train"].names
    assert first.splits["val"] is source.splits["val"]
    assert np.sort(np.bincount(first.splits["train"].labels))[[0, -1]].tolist() == [5, 50]


@pytest.mark.parametrize("by_name", [False, True], ids=["list", "object"])
def test_given_counts_are_kept(tmp_path: Path, by_name: bool) -> None:
    counts = [50, 3, 0, 7, 1, 20]
    content = {f"c{label}": count for label, count in enumerate(counts)} if by_name else counts
    (tmp_path / "counts.json").write_text(json.dumps(content))
    source = cut_to_long_tail(balanced(), str(tmp_path / "counts.json"), seed=0)
    assert np.bincount(source.splits["train"].labels, minlength=6).tolist() == counts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "expected a list of 6 counts"),
        ("7", "expected a list of 6 counts"),
        ("[1, 2, 3, 4, 5, 51]", r"class 5 \(c5\): 51 images are asked for, but the source has 50"),
        ("[1, 2, 3, 4, 5, 1.5]", r"class 5 \(c5\): 1.5 is not a whole number"),
        ("[1, 2, 3, 4, 5, -1]", "-1 is not a whole number"),
        ("[1, 2, 3, 4, 5, true]", "True is not a whole number"),
        ('{"c0": 1}', r"no count for class `c1` \(5 missing\)"),
        ('{"c0": 1, "c1": 1, "c2": 1, "c3": 1, "c4": 1, "c5": 1, "moose": 2}', "`moose` is not a class"),
        ("[1, 2", "not a file of counts"),
    ],
)
def test_wrong_counts_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "counts.json").write_text(content)
    with pytest.raises(DataError, match=message):
        cut_to_long_tail(balanced(), str(tmp_path / "counts.json"), seed=0)


def test_an_unknown_shape_or_a_rising_curve_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--long-tail zipf: expected none, pareto"):
        cut_to_long_tail(balanced(), "zipf", seed=0)
    with pytest.raises(UsageError, match="--min-count 60 is above"):
        cut_to_long_tail(balanced(), "pareto", seed=0, min_count=60)
