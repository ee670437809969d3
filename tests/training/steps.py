"""Twenty steps of a small network on one device, for tests that compare engines, precisions and devices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training.average import average_of
from ltrsys.training.checkpoints.checkpoint import Checkpoint, Progress
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.engine import Engine
from ltrsys.training.engines.starting import start_engine
from ltrsys.training.meter import Meter
from ltrsys.training.supervision.loss_watch import LossWatch
from ltrsys.training.supervision.process_group import process_group
from ltrsys.training.supervision.requests import Requests
from ltrsys.world import World
from tests.training.objectives import make_objective

STEPS, ACCUMULATION, IMAGES, SIDE = 20, 2, 6, 8

TOLERANCE = {"float32": 2e-3, "bf16": 0.1, "fp16": 0.03}
"""How far losses around 1 may be from float32's on a CPU after twenty steps, by precision."""


def batch(number: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return micro-batch `number`, the same on every device: three classes that differ in their mean."""
    generator = torch.Generator().manual_seed(number)
    labels = torch.arange(IMAGES) % 3
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator) + labels[:, None, None, None]
    return images.to(device), labels.to(device)


def make_engine(device: torch.device, **train: Any) -> Engine:
    torch.manual_seed(0)
    network = build_network(ModelConfig(backbone="resnet10", stem="small"), 3).to(device)
    config = TrainConfig(**{"precision": "float32", "channels_last": False, "tf32": False} | train)
    return start_engine(
        network, config, make_objective(device, config.loss), accumulation=ACCUMULATION, micro_batch_size=IMAGES
    )


def take_step(engine: Engine, device: torch.device, step: int, channels_last: bool = False) -> Tensor:
    """Run one step; return the losses of its micro-batches, on the device."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    losses = []
    for accumulated in range(ACCUMULATION):
        images, labels = batch(ACCUMULATION * step + accumulated, device)
        images = images.contiguous(memory_format=layout)
        losses.append(engine.accumulate(images, labels, last=accumulated == ACCUMULATION - 1))
    engine.step(0.1)
    return torch.stack(losses)


def losses_of(engine: Engine, device: torch.device, steps: range, channels_last: bool = False) -> list[float]:
    """Return the mean loss of every step."""
    return [float(take_step(engine, device, step, channels_last).mean()) for step in steps]


def losses(device: torch.device, **train: Any) -> list[float]:
    """Return the mean loss of every step of a run of its own."""
    engine = make_engine(device, **train)
    found = losses_of(engine, device, range(STEPS), train.get("channels_last", False))
    engine.close()
    return found


def resumed_losses(device: torch.device, path: Path, **train: Any) -> list[float]:
    """Return the losses of a run that is saved after half of its steps and goes on in another engine."""
    first = make_engine(device, **train)
    before = losses_of(first, device, range(STEPS // 2))
    progress = Progress(dataset="", config={}, micro_batch_size=IMAGES, world_size=1, scaler=first.scaler_state())
    Checkpoint(first.network.state_dict(), first.optimizer_state(), progress).save(path)
    first.close()
    saved, second = Checkpoint.load(path), make_engine(device, **train)
    second.network.load_state_dict(dict(saved.network))
    second.load_optimizer_state(saved.optimizer)
    second.load_scaler_state(saved.progress.scaler)
    after = losses_of(second, device, range(STEPS // 2, STEPS))
    second.close()
    return before + after


def watched_steps(device: torch.device, forbid: Callable[[bool], None], **train: Any) -> int:
    """Run all that a step of the training loop calls, with `forbid(True)` from the 5th step to the 15th.

    Returns:
        The steps that were run so.
    """
    engine, world = make_engine(device, **train), World()
    average = average_of(engine.network, TrainConfig(ema_decay=0.9, channels_last=False), world.rank)
    assert average is not None
    watch, meter = LossWatch(0, 0.1), Meter(world, device)
    requests = Requests(world, device, minutes=None)
    batches = [[batch(ACCUMULATION * step + part, device) for part in range(ACCUMULATION)] for step in range(STEPS)]
    watched = 0
    try:
        for step in range(STEPS):
            forbid(5 <= step < 15)
            found = [
                engine.accumulate(images, labels, last=place == ACCUMULATION - 1)
                for place, (images, labels) in enumerate(batches[step])
            ]
            engine.step(0.1)
            average.update(engine.network, step + 1)
            meter.add(torch.stack(found).mean(), IMAGES * ACCUMULATION)
            watch.add(step, [torch.arange(IMAGES)] * ACCUMULATION, found)
            requests.agreed()
            watched += 5 <= step < 15
    finally:
        forbid(False)
        requests.close()
        engine.close()
    return watched


@contextmanager
def alone(wanted: str = "cpu") -> Iterator[torch.device]:
    """Join the process group of one rank on a device, as often as tests of one process want to."""
    from deepspeed.utils import groups

    with process_group(World(), 60, wanted) as device:  # type: ignore[arg-type]
        yield device
    groups._release_process_group_references()  # DeepSpeed would go on with those of its first engine
