"""The device that is taken, and what is said where there should be another."""

import logging
import socket
from pathlib import Path

import pytest
import torch

from ltrsys import device as device_module
from ltrsys.config.reading import load_config
from ltrsys.device import choose_device, describe_device, set_up_gpu
from ltrsys.errors import LtrsysError
from ltrsys.first_stage.trainer import train
from ltrsys.world import World

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Play a machine on which torch finds no GPU, whatever else says that there is one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_GPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    files = {"/dev/nvidiactl": tmp_path / "nvidiactl", "/proc/driver/nvidia/version": tmp_path / "version"}
    monkeypatch.setattr(device_module, "Path", lambda path: files.get(path) or Path(path))
    return files


def test_a_machine_without_a_gpu_computes_on_the_cpu(machine):
    assert choose_device("auto", World()) == CPU
    assert choose_device("cpu", World()) == CPU


@pytest.mark.parametrize("evidence", ["device", "driver", "slurm"])
def test_a_gpu_that_should_be_there_and_is_not_ends_the_run(machine, monkeypatch, evidence):
    if evidence == "device":
        machine["/dev/nvidiactl"].touch()
        found, here = "NVIDIA's driver is loaded", "which needs NVIDIA's driver 580 or later (none can be seen here)"
    elif evidence == "driver":  # all that a container without GPUs sees
        machine["/proc/driver/nvidia/version"].write_text(
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version:\n"
        )
        found = "NVIDIA's driver is loaded"
        here = "which needs NVIDIA's driver 580 or later (535.183.01 is loaded here)"
    else:
        monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
        found, here = (
            "SLURM has given this job GPUs",
            "which needs NVIDIA's driver 580 or later (none can be seen here)",
        )
    with pytest.raises(LtrsysError) as caught:
        choose_device("auto", World(3, 4))
    message = str(caught.value)
    assert message.startswith(f"rank 3 on {socket.gethostname()}: torch finds no GPU, and {found}")
    assert here in message
    assert message.endswith("To compute on the CPU all the same, give train.device=cpu.")
    assert "\n" not in message
    assert choose_device("cpu", World()) == CPU


def test_gpus_that_are_hidden_on_purpose_are_not_missed(machine, monkeypatch):
    machine["/dev/nvidiactl"].touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("auto", World()) == CPU


def test_a_gpu_that_is_asked_for_must_be_there(machine, monkeypatch):
    with pytest.raises(LtrsysError, match=r"torch finds no GPU, and train\.device=cuda asks for one"):
        choose_device("cuda", World())
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(LtrsysError, match="built without CUDA: install one that has it"):
        choose_device("cuda", World())


def test_more_processes_than_gpus_are_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(LtrsysError, match=r"asks for GPU 1, and 1 can be seen here\. Start one process a GPU"):
        choose_device("auto", World(1, 2, local_rank=1, local_world_size=2))


def test_how_a_gpu_computes_is_set_as_configured(monkeypatch):
    settings = [(torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "allow_tf32")]
    settings.append((torch.backends.cuda.matmul, "allow_tf32"))
    before = [getattr(*setting) for setting in settings]
    try:
        set_up_gpu(torch.device("cuda", 0), cudnn_benchmark=True, tf32=False)
        assert [getattr(*setting) for setting in settings] == [True, False, False]
        set_up_gpu(CPU, cudnn_benchmark=False, tf32=True)
        assert [getattr(*setting) for setting in settings] == [True, False, False]
    finally:
        for setting, value in zip(settings, before, strict=True):
            setattr(*setting, value)


def test_a_gpu_is_described_by_name_and_driver(machine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert describe_device(torch.device("cuda", 0)) == "NVIDIA H100 80GB HBM3"
    machine["/proc/driver/nvidia/version"].write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n"
    )
    assert describe_device(torch.device("cuda", 0)) == "NVIDIA H100 80GB HBM3 (driver 580.65.06)"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.long
def test_the_first_line_of_a_run_says_what_it_computes_on(tmp_path, tiny_shards, caplog):
    from tests.trainings import config_writer

    config = load_config(config_writer(tmp_path, tiny_shards)(train__epochs=1))
    with caplog.at_level(logging.INFO, logger="ltrsys"):
        train(config, World())
    device = describe_device(CPU)
    assert caplog.records[0].getMessage() == f"tiny: 1 rank, {device}, float32, images decoded on the CPU."
