"""Rows of the bank, from where it lies and from a copy on the device."""

import numpy as np
import pytest
import torch

from ltrsys.features import bank
from ltrsys.features.bank import BankSplit
from tests.classifiers.conftest import CPU

ROWS = np.array([5, 0, 5, 29])


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> BankSplit:
    monkeypatch.setattr(bank, "BLOCK_ROWS", 7)
    features = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    return BankSplit(features, np.arange(30) % 3, 3)


def test_rows_of_a_copy_are_those_of_the_bank(split: BankSplit) -> None:
    for found, expected in zip(split.copied(CPU)(ROWS), split.rows(ROWS, CPU), strict=True):
        assert torch.equal(found, expected)
        assert found.dtype == expected.dtype


@pytest.mark.parametrize(("free", "copied"), [(960, True), (959, False)])
def test_a_gpu_gets_a_copy_where_half_of_its_free_memory_holds_it(
    split: BankSplit, monkeypatch: pytest.MonkeyPatch, free: int, copied: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**6))
    monkeypatch.setattr(BankSplit, "copied", lambda self, device: "copied")
    assert (split.reader(torch.device("cuda", 0)) == "copied") is copied
    assert split.reader(CPU) != "copied"
