"""The rehearsal on a CPU of what `tests/gpu/test_training.py` runs on a GPU."""

from functools import cache

import pytest
import torch

from ltrsys.training.losses.base import LOSSES
from tests.training.steps import STEPS, TOLERANCE, alone, losses, resumed_losses, watched_steps

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def device():
    torch.set_num_threads(1)
    with alone() as device:
        yield device


@pytest.fixture(scope="module")
def plain(device):
    """DDP in float32: what everything else is compared with, on a GPU too."""
    return losses(device, engine="ddp")


@pytest.fixture(scope="module")
def trained_by(device):
    """Losses by engine, precision and layout, of one run each."""
    return cache(lambda **train: losses(device, **train))


def test_the_network_learns(plain):
    assert len(plain) == STEPS
    assert sum(plain[-5:]) < 0.7 * sum(plain[:5])


@pytest.mark.parametrize("engine", ["ddp", "deepspeed"])
@pytest.mark.parametrize(
    ("precision", "channels_last"),
    [
        ("float32", False),
        ("float32", True),
        ("bf16", False),
        ("bf16", True),
        pytest.param("fp16", False, marks=pytest.mark.slow),
    ],
)
def test_engines_precisions_and_layouts_train_alike(trained_by, plain, engine, precision, channels_last):
    found = trained_by(engine=engine, precision=precision, channels_last=channels_last)
    assert found == pytest.approx(plain, abs=TOLERANCE[precision])


def test_zero_1_trains_alike(device, plain):
    assert losses(device, engine="deepspeed", zero_stage=1) == pytest.approx(plain, abs=TOLERANCE["float32"])


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("engine", ["ddp", "deepspeed"])
def test_a_saved_run_goes_on_alike(device, trained_by, engine, precision, tmp_path):
    whole = trained_by(engine=engine, precision=precision, channels_last=False)
    found = resumed_losses(device, tmp_path / "checkpoint.safetensors", engine=engine, precision=precision)
    assert found == whole


@pytest.mark.parametrize("engine", ["ddp", "deepspeed"])
def test_all_parts_of_a_step_run_while_waiting_is_forbidden(device, engine, monkeypatch):
    from deepspeed.accelerator import get_accelerator

    forbidden = []
    monkeypatch.setattr(
        type(get_accelerator()), "synchronize", lambda self, device_index=None: pytest.fail("the step waits")
    )
    assert watched_steps(device, forbidden.append, engine=engine) == 10
    assert forbidden == [False] * 5 + [True] * 10 + [False] * 6


@pytest.mark.parametrize("kind", [name for name in LOSSES.names() if name != "lifted"])
def test_every_loss_trains(device, kind):
    """From chance, in twenty steps; on a GPU, the same steps show that none waits."""
    found = losses(device, engine="ddp", loss={"kind": kind})
    assert found[-1] < found[0]
