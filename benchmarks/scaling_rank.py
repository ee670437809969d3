"""One rank of `benchmarks.scaling`: real data, a sleep for the computation, a real average of gradients."""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from ltrsys.data.config import DataConfig, make_sampler
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.loader import TrainLoader
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World

BATCH_SIZE = 64
"""Images of one rank's step."""

GRADIENTS = 25_557_032
"""Parameters of a ResNet-50 with 1,000 classes."""

LANES, WARM_UP = 12, 6


@dataclass(frozen=True)
class Step:
    """What a rank does."""

    shards: str
    compute: float
    """Seconds of sleep a step."""
    steps: int

    def dump(self) -> str:
        """Return it as JSON for the command line of a rank."""
        return json.dumps(asdict(self))


def measure(step: Step, world: World) -> dict[str, float]:
    """Return the images a second of all ranks, and the shares of a step, means over the ranks."""
    split = Dataset.open(Path(step.shards)).split("train")
    threads = max(1, len(os.sched_getaffinity(0)) // world.local_world_size)
    config = DataConfig(shards=Path(step.shards), threads=threads, lanes=LANES)
    batching = Batching(BATCH_SIZE * world.world_size, BATCH_SIZE, world, LANES)
    # One long epoch: at the end of each, the pipeline runs empty, and these photographs are few.
    samples = batching.batch_size * (WARM_UP + step.steps)
    planner = Planner(split, make_sampler(), seed=0, num_epochs=1, samples_per_epoch=samples, lanes=LANES)
    loader = TrainLoader(split, config, planner=planner, batching=batching, seed=0, device=torch.device("cpu"))
    gradients = torch.zeros(GRADIENTS)
    communicating = stalled = started = 0.0
    for number, _ in enumerate(loader.epoch(0)):
        if number == WARM_UP:
            dist.barrier()
            communicating, stalled, started = 0.0, loader.stall_seconds, time.perf_counter()
        time.sleep(step.compute)
        before = time.perf_counter()
        dist.all_reduce(gradients)
        gradients /= world.world_size
        communicating += time.perf_counter() - before
    elapsed = time.perf_counter() - started
    shares = torch.tensor([loader.stall_seconds - stalled, communicating, step.compute * step.steps, elapsed])
    loader.close()
    dist.all_reduce(shares)
    data, communication, computation, total = shares.tolist()
    return {
        "images_per_second": BATCH_SIZE * world.world_size * step.steps / (total / world.world_size),
        "waiting for data": data / total,
        "communicating": communication / total,
        "computing": computation / total,
    }


if __name__ == "__main__":
    this_rank = World.detect()
    with process_group(this_rank, timeout_seconds=600):
        results = measure(Step(**json.loads(sys.argv[1])), this_rank)
    if this_rank.is_main:
        Path(sys.argv[2]).write_text(json.dumps(results), encoding="utf-8")
