"""How long a save keeps training waiting, and what the audit and the checksums cost.

A save is `CheckpointFolder.save`: training waits for a copy to memory, and a thread writes it meanwhile. Beside it,
the same checkpoint written at once, as if training waited for the disk.
"""

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from benchmarks.input_contenders import ours
from benchmarks.photographs import photograph_source
from benchmarks.report import Table, interleaved, main, summary
from benchmarks.timing import wait_for
from ltrsys.data.config import make_sampler
from ltrsys.data.index.columns import checksum
from ltrsys.data.index.dataset import Split
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.runs.audit_log import AuditLog
from ltrsys.training.checkpoints.checkpoint import Checkpoint, Progress
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.training.checkpoints.rank_state import gather_rank_state, mean_buffers
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.engine import Engine
from ltrsys.training.engines.starting import start_engine
from ltrsys.training.losses.base import LossContext
from ltrsys.training.objective import Objective
from ltrsys.training.optimizers.sgd import SGD
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World

BATCH_SIZE = 64
"""Images of a batch of the input pipeline."""

THREADS = 2


@dataclass(frozen=True)
class Workload:
    """A network, and a step of it."""

    name: str
    model: ModelConfig
    num_classes: int
    batch_size: int
    image_size: int


RESNET50 = Workload("ResNet-50, 8,142 classes", ModelConfig(backbone="resnet50"), 8142, batch_size=16, image_size=224)
DEMO = Workload(
    "ResNet-10 of the demo", ModelConfig(backbone="resnet10", stem="small"), 200, batch_size=64, image_size=16
)


def measure(quick: bool) -> list[Table]:
    """Measure both networks' saves, then the cost of the records beside the input pipeline."""
    with tempfile.TemporaryDirectory() as folder:
        saves = _saves([DEMO] if quick else [RESNET50, DEMO], Path(folder), rounds=2 if quick else 5)
        return [saves, _records(Path(folder), quick)]


def _saves(workloads: list[Workload], folder: Path, rounds: int) -> Table:
    world, rows = World(), []
    with process_group(world, timeout_seconds=600) as device:
        for workload in workloads:
            rows.append(_row(workload, folder / workload.model.backbone, world, device, rounds))
    notes = (
        f"Medians of {rounds} saves, by turns; one rank on {device.type}, DDP, float32. A copy is all that training "
        "waits for: taking weights, momentum and BatchNorm's statistics together, and copying them.",
        "A synchronous save takes the same copy, then hashes, writes and syncs it before training goes on.",
    )
    return Table("A save", list(rows[0]), rows, notes)


def _row(workload: Workload, folder: Path, world: World, device: torch.device, rounds: int) -> dict[str, str | float]:
    network = build_network(workload.model, workload.num_classes).to(device)
    config = TrainConfig(engine="ddp", precision="float32", channels_last=False, optimizer=SGD(lr=0.001))
    counts = np.ones(workload.num_classes, dtype=np.int64)
    objective = Objective(config.loss, LossContext(counts, 0.0, device, network.feature_dim))
    engine = start_engine(network, config, objective, accumulation=1, micro_batch_size=workload.batch_size)
    images = torch.randn(workload.batch_size, 3, workload.image_size, workload.image_size, device=device)
    labels = torch.randint(0, workload.num_classes, (workload.batch_size,), device=device)

    def step() -> float:
        started = time.perf_counter()
        engine.accumulate(images, labels, last=True)
        engine.step(1.0)
        wait_for(device)
        return time.perf_counter() - started

    checkpoints = CheckpointFolder(folder, kept=1)
    for _ in range(2):
        step()
    steps, copies, synchronous = [], [], []
    for number in range(rounds):
        steps += [step() for _ in range(3)]
        started = time.perf_counter()
        _checkpoint_of(engine, world, number).copied().save(folder / "synchronous.safetensors")
        synchronous.append(time.perf_counter() - started)
        started = time.perf_counter()
        checkpoints.save(_checkpoint_of(engine, world, number))
        wait_for(device)
        copies.append(time.perf_counter() - started)
        while not (folder / f"step-{number:09d}.safetensors").exists():
            step()
    size = (folder / "synchronous.safetensors").stat().st_size
    checkpoints.close()
    engine.close()
    step_ms, copy_ms, synchronous_ms = (1000 * statistics.median(each) for each in (steps, copies, synchronous))
    return {
        "network": f"{workload.name}, b{workload.batch_size} of {workload.image_size} px",
        "MB": size / 1e6,
        "step, ms": step_ms,
        "copy, ms": copy_ms,
        "copy / step": copy_ms / step_ms,
        "synchronous, ms": synchronous_ms,
        "synchronous / step": synchronous_ms / step_ms,
    }


def _checkpoint_of(engine: Engine, world: World, step: int) -> Checkpoint:
    """Take a checkpoint as the trainer does."""
    ranks = gather_rank_state(engine.network, torch.zeros((), device=engine.network.classifier.weight.device), world)
    progress = Progress(step=step, micro_batch_size=1, world_size=1, dataset="", config={})
    return Checkpoint(engine.network.state_dict() | mean_buffers(ranks), engine.optimizer_state(), progress, ranks)


def _records(folder: Path, quick: bool) -> Table:
    """Measure what is recorded and checked of every image, beside the time in which one is made ready."""
    shards = folder / "photographs"
    options = BuildOptions(max_shard_bytes=8 * 2**20)
    split = build_shards(photograph_source(np.full(8, 32 if quick else 100)), shards, options, workers=THREADS).split(
        "train"
    )
    stream = ours(split, shards, sampler=make_sampler(), batch_size=BATCH_SIZE, threads=THREADS)
    audit = AuditLog(folder / "audit", attempt=1, rank=0, micro_batch_size=BATCH_SIZE)
    positions = np.arange(BATCH_SIZE)
    batches, rounds = (2, 2) if quick else (16, 15)

    def pipeline() -> float:
        return _seconds(lambda: list(islice(stream, batches))) / batches

    def record() -> float:
        calls = 1000
        started = time.perf_counter()
        for step in range(calls):
            audit.add(step, 0, positions, positions)
        return (time.perf_counter() - started) / calls

    pipeline()
    shards_in_memory = [split.shard_path(shard).read_bytes() for shard in range(len(split.record.shards))]
    cases = {
        "the input pipeline": pipeline,
        "the audit": record,
        "XXH3 of every image": lambda: _checksums(split, shards_in_memory),
        "SHA-256 of the shards": lambda: _sha256(split, shards_in_memory),
    }
    measured = {
        name: summary([1e6 * second / BATCH_SIZE for second in seconds])["median"]
        for name, seconds in interleaved(cases, rounds).items()
    }
    audit.close()
    whole = measured["the input pipeline"]
    rows = [
        {"what": name, "us an image": microseconds, "over the pipeline": microseconds / whole}
        for name, microseconds in measured.items()
    ]
    notes = (
        f"Medians of {rounds} turns; photographs of {split.size.mean() / 1e3:.1f} kB on average, batches of "
        f"{BATCH_SIZE}, {THREADS} threads. The audit is one row a batch, 16 bytes an image.",
        "The reader checks every image, which is part of the pipeline's time; the SHA-256 of a shard is made when it "
        "is built, verified or fetched, and not while one trains from a disk.",
    )
    return Table("Records and checksums", list(rows[0]), rows, notes)


def _checksums(split: Split, shards: list[bytes]) -> float:
    """Return the seconds that the reader's checksums take for so many images as a batch has."""
    images = [
        memoryview(shards[shard])[offset : offset + size]
        for shard, offset, size in zip(split.shard.tolist(), split.offset.tolist(), split.size.tolist(), strict=True)
    ]
    return _seconds(lambda: [checksum(image) for image in images]) * BATCH_SIZE / len(split)


def _sha256(split: Split, shards: list[bytes]) -> float:
    """Return the seconds that the SHA-256 of the shards takes for so many images as a batch has."""
    return _seconds(lambda: [hashlib.sha256(shard).digest() for shard in shards]) * BATCH_SIZE / len(split)


def _seconds(task: Callable[[], object]) -> float:
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


if __name__ == "__main__":
    main("checkpoint", measure)
