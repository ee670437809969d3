"""Splits that are made here: in proportion, one of each class where there are enough, and nobody is moved later."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltrsys.data.shards.splitting import ENOUGH, TEST, TRAIN, VAL, Shares, groups_by, make_splits, position
from ltrsys.data.sources.source import Items
from ltrsys.errors import UsageError


def each_alone(labels: np.ndarray, shares: Shares, seed: int = 0) -> np.ndarray:
    positions = np.array([position(f"image {place}".encode(), seed) for place in range(len(labels))])
    return make_splits(np.arange(len(labels)), positions, labels, shares)


def test_shares_are_kept_to_chance() -> None:
    splits = each_alone(np.repeat(np.arange(10), 1000), Shares(val=0.1, test=0.2))
    counts = np.bincount(splits, minlength=3)
    assert abs(counts[VAL] - 1000) < 4 * np.sqrt(10_000 * 0.1 * 0.9)
    assert abs(counts[TEST] - 2000) < 4 * np.sqrt(10_000 * 0.2 * 0.8)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.integers(0, 99))
def test_a_class_of_three_or_more_is_in_every_split_and_a_smaller_one_in_train(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    splits = each_alone(labels, Shares(val=0.1, test=0.1), seed)
    for label, count in enumerate(counts):
        if count >= ENOUGH:
            assert set(splits[labels == label]) == {TRAIN, VAL, TEST}
        else:
            assert set(splits[labels == label]) == {TRAIN}


def test_images_that_are_added_move_no_other_one_of_a_class_that_has_enough() -> None:
    labels = np.repeat(np.arange(5), 200)
    shares = Shares(val=0.1, test=0.1)
    positions = np.array([position(f"image {place}".encode(), 0) for place in range(len(labels))])
    before = make_splits(np.arange(500), positions[:500], labels[:500], shares)
    assert np.array_equal(make_splits(np.arange(1000), positions, labels, shares)[:500], before)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=40), st.integers(0, 99))
def test_an_update_moves_nobody(labels: list[int], seed: int) -> None:
    classes, shares = np.array(labels), Shares(val=0.3, test=0.3)
    positions = np.array([position(f"{seed} {place}".encode(), 0) for place in range(len(labels))])
    half = len(labels) // 2
    before = make_splits(np.arange(half), positions[:half], classes[:half], shares)
    fixed = np.append(before, np.full(len(labels) - half, -1))
    assert np.array_equal(make_splits(np.arange(len(labels)), positions, classes, shares, fixed)[:half], before)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=60), st.integers(0, 99))
def test_a_group_stands_on_one_side(images: list[tuple[int, int]], seed: int) -> None:
    labels, groups = np.array(images).T
    units = np.unique(groups, return_inverse=True)[1]
    positions = np.array([position(f"group {group}".encode(), seed) for group in np.unique(groups)])
    splits = make_splits(units, positions, labels, Shares(val=0.2, test=0.2))
    for unit in np.unique(units):
        assert len(set(splits[units == unit])) == 1


def test_a_seed_makes_other_splits() -> None:
    labels = np.zeros(300, np.int64)
    shares = Shares(test=0.3)
    assert not np.array_equal(each_alone(labels, shares, 0), each_alone(labels, shares, 1))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (Shares(val=0.5, test=0.5), "--val 0.5 and --test 0.5 add to 1: nothing is left to train on"),
        (Shares(val=1.0), "--val 1: a share is a number from 0 to below 1"),
        (Shares(test=-0.1), "--test -0.1: a share"),
        (Shares(test=float("nan")), "--test nan: a share"),
    ],
)
def test_shares_that_leave_nothing_are_refused(shares: Shares, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shares.check()


def items(*names: str, **details: list[str | None]) -> Items:
    columns = {column: np.array(values, dtype=object) for column, values in details.items()}
    return Items(list(names), np.zeros(len(names), np.int32), columns)


def test_groups_are_a_column_or_a_part_of_the_path() -> None:
    photos = items("oak/cam1_7.jpg", "oak/cam2_8.jpg", "oak/x.jpg", location=["here", None, "there"])
    assert groups_by(photos, "location").tolist() == ["here", None, "there"]
    assert groups_by(photos, "(cam[0-9]+)_").tolist() == ["cam1", "cam2", None]
    assert groups_by(photos, "cam[0-9]").tolist() == ["cam1", "cam2", None]


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("camera", r"no such column \(it has: location\)"),
        ("(cam", "not a regular expression"),
        ("(bus[0-9])", "no path matches, such as `oak/1.jpg`"),
    ],
)
def test_a_grouping_that_says_nothing_is_refused(group_by: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        groups_by(items("oak/1.jpg", location=["here"]), group_by)
