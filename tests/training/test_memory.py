"""How many images go through the network at once, where the memory decides."""

import pytest
import torch
from torch import nn

from ltrsys.config.reading import load_config
from ltrsys.data.plan.batching import Batching
from ltrsys.device import within_memory
from ltrsys.errors import LtrsysError
from ltrsys.first_stage.trainer import train
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.training.memory import largest_that_fits, memory_advice
from ltrsys.world import World
from tests.first_stage.ranks import run as run_until
from tests.trainings import losses_of, read_metrics

pytestmark = pytest.mark.long

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.6 GiB of which 1 GiB is free."


@pytest.mark.parametrize(
    ("memory", "part", "found"), [(512, 512, 512), (100, 512, 64), (100, 96, 96), (5, 96, 3), (0, 8, 0), (2, 9, 0)]
)
def test_the_largest_that_fits_is_the_part_or_a_half_of_it_and_so_on(memory, part, found):
    assert largest_that_fits(part, lambda size: size <= memory) == found


@pytest.mark.parametrize(
    ("batch", "size", "advice"),
    [(512, 512, r"Give train\.micro_batch_size=256, or auto"), (96, 3, r"Give train\.micro_batch_size=1, or auto"),
     (36, 9, r"Give train\.micro_batch_size=4, or auto"), (4, 1, "Take a smaller network or smaller images")],
)  # fmt: skip
def test_a_full_gpu_is_told_with_what_to_do(batch, size, advice):
    batching = Batching(batch, size, World(), 192)
    message = rf"^rank 0: the GPU's memory does not hold {size} images at once \(CUDA out of memory\)\. {advice}"
    with pytest.raises(LtrsysError, match=message), within_memory(size, 0, memory_advice(batching)):
        raise torch.OutOfMemoryError(FULL)


def small_gpu(monkeypatch, holds):
    """Have a network that is trained fail as on a GPU that holds so many images."""
    plain = nn.Module.__call__

    def call(self, *inputs, **named):
        if self.training and isinstance(self, nn.Conv2d) and len(inputs[0]) > holds:
            raise torch.OutOfMemoryError(FULL)
        return plain(self, *inputs, **named)

    monkeypatch.setattr(nn.Module, "__call__", call)


def test_the_advice_of_a_full_gpu_can_be_followed(write_config, monkeypatch):
    small_gpu(monkeypatch, holds=24)
    path = write_config(train__micro_batch_size=48, train__epochs=1)
    with pytest.raises(LtrsysError, match=r"does not hold 48 images at once .* Give train\.micro_batch_size=24"):
        train(load_config(path), World())
    train(load_config(path, ["train.micro_batch_size=24"]), World())
    assert len([line for line in read_metrics(load_config(path).run_folder) if "train/loss" in line]) == 3


def test_auto_is_found_before_the_first_step_and_kept(write_config, monkeypatch, caplog):
    small_gpu(monkeypatch, holds=30)
    path = write_config(train__micro_batch_size="auto")
    with caplog.at_level("INFO", logger="ltrsys"):
        run_until(path, stop_after=1)
    assert "train.micro_batch_size=auto: 24 images at once, 2 times a step." in caplog.text
    small_gpu(monkeypatch, holds=10_000)
    run = load_config(path).run_folder
    run_until(path)
    assert CheckpointFolder(run / "checkpoints", kept=1).newest()[1].progress.micro_batch_size == 24


def test_trying_leaves_no_trace(write_config, trained, monkeypatch):
    """The same losses as with the same number given: neither weights nor statistics nor random numbers have moved."""
    given = trained(train__micro_batch_size=12, train__epochs=1)
    small_gpu(monkeypatch, holds=12)
    path = write_config(train__micro_batch_size="auto", train__epochs=1)
    train(load_config(path), World())
    assert losses_of(load_config(path).run_folder) == losses_of(given)


def test_a_network_of_which_nothing_fits_is_told(write_config, monkeypatch):
    small_gpu(monkeypatch, holds=0)
    with pytest.raises(LtrsysError, match=r"micro_batch_size=auto: the memory of a GPU does not hold one image"):
        train(load_config(write_config(train__micro_batch_size="auto")), World())
