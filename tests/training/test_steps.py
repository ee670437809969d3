"""The rehearsal on a CPU of what `tests/gpu/test_training.py` runs on a GPU."""

from functools import cache

import pytest
import torch

from ltrsys.training.losses.base import LOSSES
from tests.training.steps import (
    ACCUMULATION,
    STEPS,
    TOLERANCE,
    alone,
    batch,
    losses,
    make_engine,
    resumed_losses,
    watched_steps,
)

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


OPTIMIZERS = {
    "adamw": {"kind": "adamw", "layer_decay": 0.8, "decay_norms_and_biases": False},
    "lamb": {"kind": "lamb"},
    "muon": {"kind": "muon", "layer_decay": 0.8},
}


@pytest.mark.parametrize("settings", [{"engine": "ddp"}, {"engine": "deepspeed"}], ids=lambda one: one["engine"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_trains_and_goes_on_to_the_bit_by_either_engine(device, kind, settings, tmp_path):
    settings = settings | {"optimizer": OPTIMIZERS[kind], "clip_grad_norm": 1.0}
    whole = losses(device, **settings)
    assert sum(whole[-5:]) < 0.9 * sum(whole[:5])
    assert resumed_losses(device, tmp_path / "checkpoint.safetensors", **settings) == whole


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "deepspeed"},
        {"engine": "deepspeed", "zero_stage": 1},
        {"engine": "deepspeed", "precision": "bf16"},
        pytest.param({"engine": "ddp", "precision": "fp16"}, marks=pytest.mark.slow),
        pytest.param({"engine": "deepspeed", "precision": "fp16"}, marks=pytest.mark.slow),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_engines_and_precisions_clip_gradients_alike(device, plain, settings):
    """A bound of 0.1, which every step's gradients exceed: fp16's, scaled by 65,536, would hardly move the weights."""
    clipped = losses(device, engine="ddp", clip_grad_norm=0.1)
    assert clipped[-1] > plain[-1] + 2 * TOLERANCE["float32"]
    found = losses(device, clip_grad_norm=0.1, **settings)
    assert found == pytest.approx(clipped, abs=TOLERANCE[settings.get("precision", "float32")])


@pytest.mark.parametrize("settings", [{"engine": "ddp"}, {"engine": "deepspeed"}], ids=lambda one: one["engine"])
def test_clipping_is_torch_s_of_the_averaged_gradients(device, settings):
    """One step of plain SGD by hand, after the gradients of two micro-batches."""
    sgd = {"kind": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 1.0}
    engine = make_engine(device, optimizer=sgd, clip_grad_norm=0.5, **settings)
    before = {name: one.detach().clone() for name, one in engine.network.named_parameters()}
    for part in range(ACCUMULATION):
        engine.accumulate(*batch(part, device), last=part == ACCUMULATION - 1)
    gradients = {name: one.grad.clone() for name, one in engine.network.named_parameters()}
    norm = torch.stack([one.norm() for one in gradients.values()]).norm()
    assert norm > 0.5
    engine.step(1.0)
    for name, parameter in engine.network.named_parameters():
        torch.testing.assert_close(
            parameter.detach(), before[name] - 0.5 / norm * gradients[name], atol=1e-6, rtol=1e-5
        )
    engine.close()


@pytest.mark.parametrize("engine", ["ddp", "deepspeed"])
def test_all_parts_of_a_step_run_while_waiting_is_forbidden(device, engine, monkeypatch):
    from deepspeed.accelerator import get_accelerator

    forbidden = []
    monkeypatch.setattr(
        type(get_accelerator()), "synchronize", lambda self, device_index=None: pytest.fail("the step waits")
    )
    assert watched_steps(device, forbidden.append, engine=engine, clip_grad_norm=1.0) == 10
    assert forbidden == [False] * 5 + [True] * 10 + [False] * 6


@pytest.mark.parametrize("kind", [name for name in LOSSES.names() if name != "lifted"])
def test_every_loss_trains(device, kind):
    """From chance, in twenty steps; on a GPU, the same steps show that none waits."""
    found = losses(device, engine="ddp", loss={"kind": kind})
    assert found[-1] < found[0]
