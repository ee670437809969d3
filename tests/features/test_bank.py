"""Rows of the bank, from where it lies and from a copy on the device; what a bank is told apart by."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltrsys.data.index.dataset import Dataset
from ltrsys.features import bank
from ltrsys.features.bank import BankIdentity, BankSplit, fingerprint
from tests.classifiers.conftest import CPU
from tests.classifiers.runs import make_config, make_run

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


@pytest.mark.parametrize(
    ("treatment", "known"),
    [
        ("eval", "6d1ff22e5f10939ce1a7c556ae12aef5aec74ac185b84e43882d8e7ac01d7bdd"),
        ("recalibrate", "d7c10e0cf295a4b87357c4b488e2c7fca30ae169a22fcc61544ce86ad3620551"),
    ],
)
def test_a_bank_from_before_later_settings_is_current_until_one_of_them_is_used(
    treatment: str, known: str, tiny_shards: Path, tmp_path: Path
) -> None:
    run, dataset = make_run(tmp_path / "run", tiny_shards), Dataset.open(tiny_shards)

    def identity(**data: Any) -> BankIdentity:
        config = make_config(run.path, tiny_shards)
        balance = config.balance.model_copy(update={"bn": treatment})
        changed = config.model_copy(update={"balance": balance, "data": config.data.model_copy(update=data)})
        return BankIdentity.of(run, changed, dataset)

    before, now = identity(), identity(interpolation="bicubic")
    assert fingerprint(before.settings) == known
    assert before.difference(now) == now.difference(before) == "the setting interpolation has changed"
