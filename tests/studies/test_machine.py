"""A machine's cores and GPUs, shared among trainings at once."""

import os

import pytest
import torch

from ltrsys.errors import UsageError
from ltrsys.studies import machine
from ltrsys.studies.machine import shares


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Five cores, of which this process may not use the first, and no GPU."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {4, 1, 2, 3})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def _gpus(computer: pytest.MonkeyPatch, number: int, visible: str | None = None) -> None:
    computer.setattr(torch.cuda, "device_count", lambda: number)
    if visible is not None:
        computer.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize("gpus", [0, 1])
def test_one_training_has_all(computer: pytest.MonkeyPatch, gpus: int) -> None:
    for number in (0, 1, 3):
        _gpus(computer, number)
        (whole,) = shares(1, gpus)
        assert (whole.cores, whole.gpus, whole.confined) == ((), (), [])
        assert "CUDA_VISIBLE_DEVICES" not in whole.environment


def test_each_core_is_one_training_s(computer: pytest.MonkeyPatch) -> None:
    assert [share.cores for share in shares(3, 1)] == [(1, 2), (3,), (4,)]
    assert shares(2, 1)[1].confined == ["taskset", "--cpu-list", "3,4"]
    _gpus(computer, 1)
    assert [share.gpus for share in shares(3, 0)] == [()] * 3
    assert len({share.environment["MASTER_PORT"] for share in shares(4, 0)}) == 4


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, [("0", "1"), ("2", "3")]), ("7,5,3,0", [("7", "5"), ("3", "0")])]
)
def test_each_gpu_is_one_training_s(
    computer: pytest.MonkeyPatch, visible: str | None, expected: list[tuple[str, str]]
) -> None:
    _gpus(computer, 4, visible)
    found = shares(2, 2)
    assert [share.gpus for share in found] == expected
    assert found[1].environment["CUDA_VISIBLE_DEVICES"] == ",".join(expected[1])
    assert shares(1, 3)[0].gpus == (expected[0] + expected[1])[:3]


@pytest.mark.parametrize(
    ("jobs", "gpus", "number", "said"),
    [
        (5, 1, 0, "--jobs 5: this process may use 4 cores. Give at most 4."),
        (1, 2, 0, "--jobs 1 --gpus 2: that takes 2 GPUs, and 0 can be seen here."),
        (2, 2, 3, "--jobs 2 --gpus 2: that takes 4 GPUs, and 3 can be seen here."),
        (3, 1, 2, "--jobs 3 --gpus 1: that takes 3 GPUs, and 2 can be seen here."),
    ],
)
def test_a_machine_that_is_too_small_is_told(
    computer: pytest.MonkeyPatch, jobs: int, gpus: int, number: int, said: str
) -> None:
    _gpus(computer, number)
    with pytest.raises(UsageError, match=said):
        shares(jobs, gpus)


def test_gpus_that_are_named_by_other_things_than_numbers_go_to_trainings_of_one(computer: pytest.MonkeyPatch) -> None:
    _gpus(computer, 2, "GPU-x,MIG-y")
    assert [share.gpus for share in shares(2, 1)] == [("GPU-x",), ("MIG-y",)]
    with pytest.raises(UsageError, match=r"CUDA_VISIBLE_DEVICES names GPU-x,MIG-y\. Give numbers there\."):
        shares(1, 2)


def test_without_taskset_it_is_named(computer: pytest.MonkeyPatch) -> None:
    computer.setattr(machine.shutil, "which", lambda name: None)
    assert len(shares(1, 1)) == 1
    with pytest.raises(UsageError, match="needs the command taskset, of the package util-linux"):
        shares(2, 1)
