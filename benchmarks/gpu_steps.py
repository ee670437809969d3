"""A training step through the project's engines, on synthetic images, for the benchmarks of a GPU."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import clocked
from ltrsys.models.backbones.base import BACKBONES, Backbone
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.engine import Engine
from ltrsys.training.engines.starting import start_engine
from ltrsys.training.losses.base import LossContext
from ltrsys.training.objective import Objective
from ltrsys.training.optimizers.sgd import SGD

NUM_CLASSES = 1000
SPARE = 0.25
"""Part of the GPU's memory that a batch leaves free, which the decoder and what a compiler makes need."""

Step = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Way:
    """How a network is trained."""

    backbone: str
    engine: str = "ddp"
    channels_last: bool = True
    compiled: bool = False
    image_size: int = 224

    @property
    def layout(self) -> str:
        """The memory format, by the name it has in tables."""
        return "channels_last" if self.channels_last else "NCHW"


class Rehearsed(Backbone):
    """One convolution: a compiler for CPUs takes a minute for ten."""

    name = "rehearsed"
    summary = "one convolution, to rehearse what is done with a network"

    @classmethod
    def build(cls) -> nn.Module:
        """Build the network, [B, 3, H, W] -> [B, 10]."""
        convolution = nn.Conv2d(3, 8, kernel_size=3, stride=2, bias=False)
        return nn.Sequential(
            convolution, nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
        )


@contextmanager
def started(way: Way, batch_size: int, device: torch.device) -> Iterator[Step]:
    """Start an engine; yields what makes a step of images [B, 3, H, W] and labels [B], and returns the loss.

    Raises:
        torch.OutOfMemoryError: Where the network alone is too large.
    """
    config = TrainConfig.model_validate(
        {"engine": way.engine, "channels_last": way.channels_last, "compile": way.compiled, "precision": "bf16"}
    ).model_copy(update={"optimizer": SGD(lr=0.01)})
    torch.manual_seed(0)
    engines = [_engine(way, config, batch_size, device)]  # of which none is left when its memory is given back

    def step(images: Tensor, labels: Tensor) -> Tensor:
        loss = engines[0].accumulate(images, labels, last=True)
        engines[0].step(1.0)
        return loss

    try:
        yield step
    finally:
        engines.pop().close()
        give_back_memory(device)


def _engine(way: Way, config: TrainConfig, batch_size: int, device: torch.device) -> Engine:
    network = build_network(ModelConfig(backbone=way.backbone), NUM_CLASSES).to(device)
    context = LossContext(np.ones(NUM_CLASSES, dtype=np.int64), 0.0, device, network.feature_dim)
    objective = Objective(config.loss, context)
    return start_engine(network, config, objective, accumulation=1, micro_batch_size=batch_size)


def give_back_memory(device: torch.device) -> None:
    """Free what the last engine held, so that the next one finds all of the GPU's memory."""
    torch._dynamo.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def synthetic(way: Way, batch_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Make a batch of noise, [B, 3, H, W] in the layout of the way, and its labels, [B]."""
    images = torch.randn(batch_size, 3, way.image_size, way.image_size, device=device)
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    return images.to(memory_format=layout), torch.randint(0, NUM_CLASSES, (batch_size,), device=device)


def batch_that_fits(way: Way, largest: int, device: torch.device) -> int:
    """Return `largest`, or its half, its quarter, ...: with it, two steps leave a quarter of the memory free.

    Raises:
        torch.OutOfMemoryError: Where not even one image fits.
    """
    if device.type == "cpu":
        return largest
    total = torch.cuda.get_device_properties(device).total_memory
    size = largest
    while True:
        torch.cuda.reset_peak_memory_stats(device)
        try:
            seconds_of_steps(way, size, device, steps=1, warm_up=1)
            fits = torch.cuda.max_memory_reserved(device) <= (1 - SPARE) * total
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            fits = False
        give_back_memory(device)
        if fits or size == 1:
            return size
        size //= 2


def seconds_of_steps(way: Way, batch_size: int, device: torch.device, *, steps: int, warm_up: int) -> float:
    """Return the seconds of one of so many steps, after as many that are not counted."""
    with started(way, batch_size, device) as step:
        images, labels = synthetic(way, batch_size, device)
        for _ in range(warm_up):
            step(images, labels)
        return clocked(lambda: [step(images, labels) for _ in range(steps)], device) / steps


def tiny(way: Way) -> Way:
    """Return the same way for a rehearsal: of small images and a small network, the smallest where it is compiled."""
    if Rehearsed.name not in BACKBONES:  # not at import: nobody else's networks are to be of that name
        BACKBONES.register(Rehearsed)
    return replace(way, backbone=Rehearsed.name if way.compiled else "resnet10", image_size=32)
