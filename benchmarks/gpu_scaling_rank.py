"""One rank of `benchmarks.gpu_scaling`: training steps with the gradients of all ranks, and their sums alone."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.gpu_steps import Way, seconds_of_steps, tiny
from benchmarks.timing import clocked
from ltrsys.device import set_up_gpu
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World

ENGINES = ("ddp", "deepspeed")
WARM_UP = 3


@dataclass(frozen=True)
class Sizes:
    """What a rank does."""

    megabytes: tuple[float, ...] = (1.0, 16.0, 102.0, 512.0)
    """Of the sums; 102 are the gradients of a ResNet-50."""
    batch: int = 128
    steps: int = 20
    tiny: bool = False

    def dump(self) -> str:
        """Return it as JSON for the command line of a rank."""
        return json.dumps(asdict(self))


def measure(sizes: Sizes, device: torch.device) -> dict[str, dict[str, float]]:
    """Return the seconds of a step by engine, and of a sum by its megabytes: those of the slowest rank."""
    set_up_gpu(device, cudnn_benchmark=True, tf32=True)
    steps = {}
    for engine in ENGINES:
        way = Way("resnet50", engine)
        way = tiny(way) if sizes.tiny else way
        steps[engine] = _slowest(seconds_of_steps(way, sizes.batch, device, steps=sizes.steps, warm_up=WARM_UP), device)
    sums = {}
    for megabytes in sizes.megabytes:
        gradients = torch.ones(round(megabytes * 1e6 / 4), device=device)
        for _ in range(WARM_UP):
            dist.all_reduce(gradients)
        dist.barrier()
        seconds = clocked(lambda: [dist.all_reduce(gradients) for _ in range(sizes.steps)], device)  # noqa: B023
        sums[str(megabytes)] = _slowest(seconds / sizes.steps, device)
    return {"steps": steps, "sums": sums}


def _slowest(seconds: float, device: torch.device) -> float:
    found = torch.full((), seconds, device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return float(found)


if __name__ == "__main__":
    this_rank = World.detect()
    with process_group(this_rank, timeout_seconds=120) as this_device:
        results = measure(Sizes(**json.loads(sys.argv[1])), this_device)
    if this_rank.is_main:
        Path(sys.argv[2]).write_text(json.dumps(results), encoding="utf-8")
