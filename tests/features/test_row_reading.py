"""Rows of the bank in any order: the same from a file, from a copy and read ahead; what is chosen where."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ltrsys.errors import DataError
from ltrsys.features import bank, row_reading
from ltrsys.features.bank import BankSplit
from ltrsys.features.row_reading import CopiedRows, MappedRows, RowReader, RowsReadAhead, bring_to_cache, row_reader
from tests.classifiers.conftest import CPU

BATCHES = [np.array(rows, np.int64) for rows in ([5, 0, 5, 29], [], [7], [28, 3], *([i, 29 - i] for i in range(30)))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "features.npy", np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32))
    return tmp_path / "features.npy"


@pytest.fixture
def split(path: Path) -> BankSplit:
    return BankSplit(np.load(path, mmap_mode="r"), np.arange(30) % 3, 3)


@pytest.fixture(params=["copied", "mapped", "read ahead", "read ahead, of a part"])
def reader(request: pytest.FixtureRequest, split: BankSplit, path: Path, monkeypatch: pytest.MonkeyPatch) -> RowReader:
    monkeypatch.setattr(bank, "BLOCK_ROWS", 7)
    monkeypatch.setattr(row_reading, "GIVEN_BACK_AFTER", 32)
    rows = np.concatenate([np.zeros((2, 4), np.float32), split.features])
    np.save(path.with_name("whole.npy"), rows)
    part = BankSplit(np.load(path.with_name("whole.npy"), mmap_mode="r")[2:], split.labels, 3)
    readers: dict[str, Callable[[], RowReader]] = {
        "copied": lambda: CopiedRows(split, CPU),
        "mapped": lambda: MappedRows(split, CPU),
        "read ahead": lambda: RowsReadAhead(split, path, CPU),
        "read ahead, of a part": lambda: RowsReadAhead(part, path.with_name("whole.npy"), CPU),
    }
    return readers[request.param]()


def test_rows_are_those_of_the_bank(reader: RowReader, split: BankSplit) -> None:
    for rows in BATCHES:
        for found, expected in zip(reader.rows(rows), split.rows(rows, CPU), strict=True):
            assert torch.equal(found, expected)
            assert found.dtype == expected.dtype


def test_batches_come_in_their_order_and_twice(reader: RowReader, split: BankSplit) -> None:
    for _ in range(2):
        found = list(reader.batches(BATCHES))
        assert len(found) == len(BATCHES)
        for (features, labels), rows in zip(found, BATCHES, strict=True):
            assert torch.equal(features, torch.from_numpy(split.features[rows]))
            assert torch.equal(labels, torch.from_numpy(split.labels[rows]))


def test_no_more_is_read_ahead_than_is_kept(split: BankSplit, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_reading, "BATCHES_AHEAD", 3)
    asked = []

    def batches() -> Iterator[NDArray[np.int64]]:
        for rows in BATCHES:
            asked.append(rows)
            yield rows

    reading = RowsReadAhead(split, path, CPU).batches(batches())
    next(reading)
    next(reading)
    assert len(asked) == 4
    reading.close()  # type: ignore[attr-defined]
    assert len(asked) == 4


def test_a_file_that_is_cut_meanwhile_is_named(split: BankSplit, path: Path) -> None:
    reader = RowsReadAhead(split, path, CPU)
    with path.open("r+b") as file:
        file.truncate(128 + 16 * 29 + 3)
    assert len(reader.rows(np.array([28]))[0]) == 1
    with pytest.raises(DataError, match=r"features.npy: ends within its rows. Delete its folder."):
        list(reader.batches([np.array([3]), np.array([29])]))


@pytest.mark.parametrize(("free", "copied"), [(960, True), (959, False)])
def test_a_gpu_gets_a_copy_where_half_of_its_free_memory_holds_it(
    split: BankSplit, monkeypatch: pytest.MonkeyPatch, free: int, copied: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**6))
    monkeypatch.setattr(CopiedRows, "__init__", lambda self, split, device: None)
    assert isinstance(row_reader(split, torch.device("cuda", 0)), CopiedRows if copied else RowsReadAhead)


@pytest.mark.parametrize(("available", "kind"), [(960, MappedRows), (959, RowsReadAhead)])
def test_what_the_memory_does_not_hold_is_read_ahead(
    split: BankSplit, monkeypatch: pytest.MonkeyPatch, available: int, kind: type
) -> None:
    monkeypatch.setattr(row_reading, "available_memory", lambda: available)
    assert type(row_reader(split, CPU)) is kind
    in_memory = BankSplit(np.array(split.features), split.labels, 3)
    assert type(row_reader(in_memory, CPU)) is MappedRows


def test_a_file_is_asked_for_from_its_begin_to_its_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(row_reading, "ASKED_AT_ONCE", 256)
    monkeypatch.setattr(row_reading.os, "posix_fadvise", lambda descriptor, *piece: asked.append(piece))
    bring_to_cache(path)
    assert [(begin, size) for begin, size, _ in asked] == [(0, 256), (256, 256), (512, 256)]
    bring_to_cache(path.with_name("gone.npy"))
