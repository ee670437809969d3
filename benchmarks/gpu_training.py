"""Images a second of a training step by engine, layout and compiler, and of the same step on real shards.

The steps are those of `ltrsys.training.engines` in bf16. The ratio of real to synthetic says whether the input
pipeline keeps up: 0.95 and more is wanted.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_peaks import peaks_of
from benchmarks.gpu_steps import (
    NUM_CLASSES,
    Way,
    batch_that_fits,
    give_back_memory,
    seconds_of_steps,
    started,
    synthetic,
    tiny,
)
from benchmarks.photographs import photograph_source
from benchmarks.report import Table, main
from benchmarks.timing import clocked, wait_for
from ltrsys.data.config import DataConfig, make_sampler
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.loader import Batch, TrainLoader
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.device import set_up_gpu
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World

LARGEST_BATCH = {"resnet50": 256, "resnext152_32x4d": 128}
"""Networks that are measured, and the batch that is tried first."""
LAST_START = 240.0
"""Seconds after which no other case is begun: the most important come first, and compiling takes long."""
LANES = 12
SYNTHETIC, REAL = "A training step on synthetic images", "A training step on real shards"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    steps: int = 20
    warm_up: int = 5
    rounds: int = 3
    """Turns of synthetic and of real images."""
    settling: int = 4
    """Batches of a turn that are not timed: some were made while the other had its turn."""
    photographs: int = 4096


QUICK = Sizes(steps=2, warm_up=1, rounds=2, settling=1, photographs=64)


@dataclass
class Measured:
    """Rows so far, and what is to be said of them."""

    quick: bool
    device: torch.device
    batch_sizes: dict[str, int] = field(default_factory=dict)
    synthetic: list[dict[str, Any]] = field(default_factory=list)
    real: list[dict[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def tables(self) -> Iterator[Table]:
        """Yield the tables that have rows."""
        where = torch.cuda.get_device_name() if self.device.type == "cuda" else "a CPU: a rehearsal, of small networks"
        notes = [f"bf16 under autocast, SGD with momentum, {NUM_CLASSES:,} classes; one rank, on {where}."]
        trouble = list(self.failed)
        trouble += [f"Not measured, for lack of time: {', '.join(self.left_out)}."] if self.left_out else []
        if self.synthetic:
            peak = "Operations: those of all products and convolutions, three times those of a forward pass, a second."
            yield Table(SYNTHETIC, list(self.synthetic[0]), list(self.synthetic), [*notes, peak, *trouble])
        if self.real:
            loader = (
                "JPEGs of short side 300, random crops and flips; the loader alone is without a network; waiting is "
                "the share of the time in which the device had no batch. Real / synthetic is wanted >= 0.95."
            )
            yield Table(REAL, list(self.real[0]), list(self.real), [*notes, loader])


def measure(quick: bool) -> Iterator[Table]:
    """Measure all ways on synthetic images, the fastest on real ones, and what is compiled last.

    Ends the process with a line where a way has failed.
    """
    begun, sizes = time.monotonic(), QUICK if quick else Sizes()
    networks = ["resnet50"] if quick else list(LARGEST_BATCH)
    with tempfile.TemporaryDirectory(prefix="ltrsys-gpu-") as folder:
        shards = _shards(Path(folder) / "shards", sizes)  # by processes, which had better start before CUDA does
        with process_group(World(), timeout_seconds=600) as device:
            set_up_gpu(device, cudnn_benchmark=True, tf32=True)
            measured = Measured(quick, device)
            for task in _tasks(networks, device, quick=quick):
                if time.monotonic() - begun > LAST_START:
                    measured.left_out.append(str(task))
                    continue
                try:
                    task.run(measured, sizes, shards)
                except Exception as error:
                    first_line = (str(error).splitlines() or [""])[0][:300]
                    measured.failed.append(f"{task} failed: {first_line or type(error).__name__}")
                    give_back_memory(device)
                yield from measured.tables()
            yield from measured.tables()
    if measured.failed:
        raise SystemExit("\n".join(measured.failed))


@dataclass(frozen=True)
class Task:
    """One row: a way on synthetic images, or, with `decode`, on real ones."""

    way: Way
    decode: str | None = None

    def __str__(self) -> str:
        way = self.way
        what = "" if self.decode is None else f", real shards decoded on the {self.decode}"
        return f"{way.backbone} {way.engine} {way.layout}{' compiled' if way.compiled else ''}{what}"

    def run(self, measured: Measured, sizes: Sizes, shards: Path) -> None:
        """Measure it, and add the row."""
        if self.way.backbone not in measured.batch_sizes:
            largest = 4 if measured.quick else LARGEST_BATCH[self.way.backbone]
            way = tiny(self.way) if measured.quick else self.way
            measured.batch_sizes[self.way.backbone] = batch_that_fits(way, largest, measured.device)
        if self.decode is None:
            measured.synthetic.append(_synthetic_row(self.way, measured, sizes))
        else:
            measured.real.append(_real_row(self.way, self.decode, measured, sizes, shards))


def _tasks(networks: list[str], device: torch.device, *, quick: bool) -> Iterator[Task]:
    """Yield what is measured, in the order of importance; a rehearsal compiles one layout."""
    ways = [
        Way(backbone, engine, channels_last)
        for backbone in networks
        for engine in ("ddp", "deepspeed")
        for channels_last in (False, True)
    ]
    yield from map(Task, ways)
    for backbone in networks:
        # What docs/training.md says of grouped convolutions: there the plain layout may be the faster one.
        way = Way(backbone, "deepspeed", channels_last=not backbone.startswith("resnext"))
        if device.type == "cuda":
            yield Task(way, "gpu")
        if backbone == networks[0]:
            yield Task(way, "cpu")
    yield from (Task(replace(way, compiled=True)) for way in ways if not (quick and way.channels_last))


def _synthetic_row(way: Way, measured: Measured, sizes: Sizes) -> dict[str, Any]:
    run_as, batch_size = tiny(way) if measured.quick else way, measured.batch_sizes[way.backbone]
    begun = time.monotonic()
    seconds = seconds_of_steps(run_as, batch_size, measured.device, steps=sizes.steps, warm_up=sizes.warm_up)
    peaks = peaks_of(torch.cuda.get_device_name()) if measured.device.type == "cuda" else None
    operations = 3 * operations_of_an_image(run_as) * batch_size / seconds
    return {
        "network": way.backbone,
        "batch": batch_size,
        "engine": way.engine,
        "layout": way.layout,
        "compiled": "yes" if way.compiled else "no",
        "ms": 1000 * seconds,
        "images/s": batch_size / seconds,
        "TFLOP/s": operations / 1e12,
        "of the bf16 peak": operations / 1e12 / peaks.bf16 if peaks and peaks.bf16 else None,
        "started and measured, s": time.monotonic() - begun,
    }


def operations_of_an_image(way: Way) -> float:
    """Return the operations of a forward pass of one image: two for each multiplication with its addition."""
    with torch.device("meta"):
        network = build_network(ModelConfig(backbone=way.backbone), NUM_CLASSES).eval()
        images = torch.empty(1, 3, way.image_size, way.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return float(counter.get_total_flops())


def _real_row(way: Way, decode: str, measured: Measured, sizes: Sizes, shards: Path) -> dict[str, Any]:
    """Take turns of synthetic and real images with the same engine."""
    device, batch_size = measured.device, measured.batch_sizes[way.backbone]
    run_as = tiny(way) if measured.quick else way
    turns: dict[str, list[float]] = {"synthetic": [], "real": []}
    with ExitStack() as stack:
        loader, batches = stack.enter_context(_batches(run_as, decode, batch_size, sizes, shards, device))
        alone = [_alone(batches, batch_size, sizes, device) for _ in range(sizes.rounds)]
        step = stack.enter_context(started(run_as, batch_size, device))
        given = synthetic(run_as, batch_size, device)
        for _ in range(sizes.warm_up):
            step(*given)
        waited = 0.0
        for _ in range(sizes.rounds):
            turns["synthetic"].append(clocked(lambda: [step(*given) for _ in range(sizes.steps)], device))
            for batch in islice(batches, sizes.settling):
                step(batch.images, batch.labels)
            wait_for(device)
            before = loader.stall_seconds
            turns["real"].append(
                clocked(lambda: [step(batch.images, batch.labels) for batch in islice(batches, sizes.steps)], device)
            )
            waited += loader.stall_seconds - before
    ratio = median(a / b for a, b in zip(turns["synthetic"], turns["real"], strict=True))
    images = batch_size * sizes.steps
    return {
        "network": way.backbone,
        "batch": batch_size,
        "engine": way.engine,
        "layout": way.layout,
        "decoded on": decode,
        "threads": _threads(),
        "synthetic, images/s": images / median(turns["synthetic"]),
        "real, images/s": images / median(turns["real"]),
        "real / synthetic": ratio,
        "waiting": waited / sum(turns["real"]),
        "loader alone, images/s": median(alone),
    }


def _alone(batches: Iterator[Batch], batch_size: int, sizes: Sizes, device: torch.device) -> float:
    for _ in islice(batches, sizes.settling):
        pass
    return batch_size * sizes.steps / clocked(lambda: [None for _ in islice(batches, sizes.steps)], device)


@contextmanager
def _batches(
    way: Way, decode: str, batch_size: int, sizes: Sizes, shards: Path, device: torch.device
) -> Iterator[tuple[TrainLoader, Iterator[Batch]]]:
    """Open the loader for one long epoch: at the end of each, the pipeline runs empty, and these images are few."""
    split = Dataset.open(shards).split("train")
    config = DataConfig.model_validate(
        {"shards": shards, "image_size": way.image_size, "threads": _threads(), "lanes": LANES, "decode": decode}
    )
    steps = 2 * sizes.rounds * (sizes.settling + sizes.steps) + 1
    batching = Batching(batch_size, batch_size, World(), LANES)
    planner = Planner(split, make_sampler(), seed=0, num_epochs=1, samples_per_epoch=batch_size * steps, lanes=LANES)
    loader = TrainLoader(
        split,
        config,
        planner=planner,
        batching=batching,
        seed=0,
        device=device,
        channels_last=way.channels_last,
    )
    try:
        yield loader, loader.epoch(0)
    finally:
        loader.close()


def _shards(folder: Path, sizes: Sizes) -> Path:
    """Build shards of photographs, in files of 8 MiB."""
    counts = np.full(32, sizes.photographs // 32)
    build_shards(photograph_source(counts), folder, BuildOptions(max_shard_bytes=8 * 2**20), workers=_threads())
    return folder


def _threads() -> int:
    return min(16, len(os.sched_getaffinity(0)))


if __name__ == "__main__":
    main("gpu_training", measure)
