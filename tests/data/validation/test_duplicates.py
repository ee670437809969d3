"""Duplicates are found as by comparing all with all."""

import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ltrsys.data.validation.duplicates import DISTANCE, find_duplicates, joined, near_pairs, surplus, write_duplicates


def of(numbers: list[int]) -> np.ndarray:
    """Return digests of pixels, one a number."""
    return np.frombuffer(b"".join(number.to_bytes(16, "big") for number in numbers), "V16")


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_pairs_are_those_of_a_comparison_of_all_with_all(seed: int, families: int) -> None:
    random = np.random.default_rng(seed)
    heads = random.integers(0, 2**63, families, dtype=np.uint64)
    hashes = np.repeat(heads, 4)
    for place in range(len(hashes)):  # children of a head differ from it in some bits
        for bit in random.choice(64, random.integers(0, 7), replace=False):
            hashes[place] ^= np.uint64(1 << int(bit))
    hashes = np.unique(hashes)
    found = {tuple(sorted(pair)) for pairs in near_pairs(hashes) for pair in pairs.T.tolist()}
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None])
    assert found == {(int(a), int(b)) for a, b in np.argwhere(distances <= DISTANCE) if a < b}


@given(hnp.arrays(np.int64, st.integers(0, 30), elements=st.integers(0, 5)))
def test_equal_pixels_are_one_cluster(numbers: np.ndarray) -> None:
    looks = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    found = find_duplicates(of(numbers.tolist()), looks)
    same = numbers[:, None] == numbers[None]
    assert np.array_equal(found.exact[:, None] == found.exact[None], same)
    assert (found.cluster[:, None] == found.cluster[None])[same].all()


def test_many_equal_hashes_take_no_square_of_pairs() -> None:
    found = find_duplicates(of(list(range(200_000))), np.zeros(200_000, np.uint64))
    assert set(found.cluster.tolist()) == {0}
    assert len(set(found.exact.tolist())) == 200_000


def test_what_has_a_duplicate_in_a_later_split_is_surplus(tmp_path: Path) -> None:
    #                 train      val      test   train
    looks = np.array([0, 0, 0b11 << 40, 0b1, 2**63 - 1], np.uint64)
    splits = np.array([0, 1, 1, 2, 0])
    found = find_duplicates(of([1, 1, 2, 3, 4]), looks)
    dropped = surplus(found, splits)
    assert dropped.tolist() == [True, True, True, False, False]
    count = write_duplicates(tmp_path / "duplicates.jsonl", found, list("abcde"), splits, ["oak"] * 5, dropped)
    (line,) = map(json.loads, (tmp_path / "duplicates.jsonl").read_text().splitlines())
    assert count == 3
    assert line["kind"] == "near"
    assert [(image["item"], image["split"], image.get("dropped", False)) for image in line["images"]] == [
        ("a", "train", True), ("b", "val", True), ("c", "val", True), ("d", "test", False),
    ]  # fmt: skip


def test_one_image_in_two_classes_is_told_even_within_a_split(tmp_path: Path) -> None:
    found = find_duplicates(of([1, 1, 2]), np.array([0, 0, 2**60 - 1], np.uint64))
    splits, nothing = np.zeros(3, np.int64), np.zeros(3, bool)
    assert (
        write_duplicates(tmp_path / "duplicates.jsonl", found, list("abc"), splits, ["oak", "oak", "elm"], nothing) == 0
    )
    assert not (tmp_path / "duplicates.jsonl").exists()
    assert (
        write_duplicates(tmp_path / "duplicates.jsonl", found, list("abc"), splits, ["oak", "elm", "elm"], nothing) == 0
    )
    (line,) = map(json.loads, (tmp_path / "duplicates.jsonl").read_text().splitlines())
    assert (line["kind"], [image["class"] for image in line["images"]]) == ("exact", ["oak", "elm"])


def test_units_that_share_a_cluster_become_one() -> None:
    units, positions = joined(np.array([0, 0, 1, 2, 3]), np.array([0.4, 0.2, 0.9, 0.7]), np.array([0, 1, 1, 2, 2]))
    assert units[0] == units[1] == units[2] != units[3] == units[4]
    assert positions[units].tolist() == [0.2, 0.2, 0.2, 0.7, 0.7]
