"""One rank of `benchmarks.step`: takes training steps in every way in turn, and times them."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn import functional

from benchmarks.timing import wait_for
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import Network, build_network
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.starting import start_engine
from ltrsys.training.losses.base import LossContext
from ltrsys.training.objective import Objective
from ltrsys.training.optimizers.base import build_optimizer
from ltrsys.training.optimizers.sgd import SGD
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World

NUM_CLASSES = 200
WARM_UP = 3

WAYS = {
    "ddp": "DDP",
    "deepspeed": "DeepSpeed (ours)",
    "deepspeed-reducing": "+ own reduction",
    "deepspeed-default": "+ clipping: default",
}
"""The third differs from the second only by who averages the gradients; the fourth also clips them, which is
DeepSpeed's default."""


@dataclass(frozen=True)
class Workload:
    """What one step of one rank consists of."""

    backbone: str
    batch_size: int
    """Samples of one rank."""
    image_size: int

    def dump(self) -> str:
        """Return the workload as JSON for the command line of a rank."""
        return json.dumps(asdict(self))


def measure(workload: Workload, rounds: int, world: World, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of each step, by way."""
    torch.manual_seed(world.rank)
    images = torch.randn(workload.batch_size, 3, workload.image_size, workload.image_size, device=device)
    labels = torch.randint(0, NUM_CLASSES, (workload.batch_size,), device=device)
    steps = {way: _make_step(way, workload, images, labels) for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for round_number in range(WARM_UP + rounds):
        for way, step in steps.items():
            dist.barrier()
            wait_for(device)
            started = time.perf_counter()
            step()
            wait_for(device)
            if round_number >= WARM_UP:
                seconds[way].append(time.perf_counter() - started)
    return seconds


def step_of_engine(
    network: Network, config: TrainConfig, images: torch.Tensor, labels: torch.Tensor
) -> Callable[[], None]:
    """Return what takes a step of training, as ltrsys does it, on the same images again and again."""
    class_counts = np.ones(len(network.classifier.weight), dtype=np.int64)
    context = LossContext(class_counts, 0.0, images.device, network.feature_dim)
    objective = Objective(config.loss, context)
    engine = start_engine(network, config, objective, accumulation=1, micro_batch_size=len(images))

    def step() -> None:
        engine.accumulate(images, labels, last=True)
        engine.step(1.0)

    return step


def _make_step(way: str, workload: Workload, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    network = _make_network(workload).to(images.device)
    config = TrainConfig(
        engine="ddp" if way == "ddp" else "deepspeed",
        precision="float32",
        channels_last=False,
        optimizer=SGD(lr=0.01),
    )
    if way in ("ddp", "deepspeed"):
        return step_of_engine(network, config, images, labels)
    deepspeed_engine = _start_deepspeed(network, config, workload, clips=way == "deepspeed-default")

    def step_of_deepspeed() -> None:
        deepspeed_engine.backward(functional.cross_entropy(deepspeed_engine(images), labels))
        deepspeed_engine.step()

    return step_of_deepspeed


def _make_network(workload: Workload) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network(ModelConfig(backbone=workload.backbone, stem="small"), NUM_CLASSES)


def _start_deepspeed(network: Network, config: TrainConfig, workload: Workload, *, clips: bool) -> Any:
    import deepspeed

    settings = {"train_micro_batch_size_per_gpu": workload.batch_size, "steps_per_print": None}
    engine, *_ = deepspeed.initialize(
        model=network,
        optimizer=build_optimizer(network, config.optimizer, network.classifier.weight.device),
        config=settings if clips else settings | {"gradient_clipping": 0.0},
    )
    return engine


if __name__ == "__main__":
    this_rank = World.detect()
    with process_group(this_rank, timeout_seconds=600) as this_device:
        results = measure(Workload(**json.loads(sys.argv[1])), int(sys.argv[2]), this_rank, this_device)
    if this_rank.is_main:
        Path(sys.argv[3]).write_text(json.dumps(results), encoding="utf-8")
