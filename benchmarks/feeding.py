"""What the main thread does for an image until DALI has it and the batch is out again, by part.

On a GPU this is all that the host does for the input: the rest is decoded there, or by DALI's threads.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.photographs import photograph_source
from benchmarks.report import Table, main
from ltrsys.data.config import DataConfig, make_sampler
from ltrsys.data.loading.feed import Feed
from ltrsys.data.loading.loader import TrainLoader
from ltrsys.data.loading.pipeline import ImagePipeline
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.data.reading.reader import ShardReader
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.world import World

PARTS: dict[str, tuple[type, str]] = {
    "reading": (ShardReader, "read"),
    "announcing": (ShardReader, "announce"),
    "augmentation and feeding": (Feed, "_feed"),
    "of that, into DALI": (ImagePipeline, "feed"),
    "taking": (ImagePipeline, "take"),
}


def measure(quick: bool) -> list[Table]:
    """Measure batches of 64 and 256 photographs."""
    counts = np.full(8, 32) if quick else np.full(60, 32)
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "photographs"
        build_shards(photograph_source(counts), shards, BuildOptions(max_shard_bytes=8 * 2**20), workers=2)
        rows = [_row(shards, size, epochs=2 if quick else 7) for size in ((16,) if quick else (64, 256))]
    notes = [
        "Processor time of the main thread, microseconds an image, medians over epochs; the first is left out.",
        "The pipeline decodes on the CPU, in threads of its own, which do not count.",
    ]
    return [Table("Feeding", list(rows[0]), rows, notes)]


def _row(shards: Path, batch_size: int, *, epochs: int) -> dict[str, Any]:
    from ltrsys.data.index.dataset import Dataset

    split = Dataset.open(shards).split("train")
    config = DataConfig(shards=shards, threads=2)
    planner = Planner(split, make_sampler(), seed=0, num_epochs=epochs, lanes=12)
    batching = Batching(batch_size, batch_size, World(), 12)
    loader = TrainLoader(split, config, planner=planner, batching=batching, seed=0, device=torch.device("cpu"))
    spent: dict[str, list[float]] = {part: [] for part in ("all", *PARTS)}
    images = batching.steps_per_epoch(planner.samples_per_epoch) * batch_size
    with _timed() as seconds:
        for epoch in range(epochs):
            for part in PARTS:
                seconds[part] = 0.0
            started = time.thread_time()
            for _ in loader.epoch(epoch):
                pass
            if epoch:
                spent["all"].append(time.thread_time() - started)
                for part in PARTS:
                    spent[part].append(seconds[part])
    loader.close()
    return {"batch": batch_size} | {part: median(values) / images * 1e6 for part, values in spent.items()}


class _timed:
    """While it is entered, the parts add up the processor time of their calls."""

    def __enter__(self) -> dict[str, float]:
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._plain: dict[str, Callable[..., Any]] = {}
        for part, (owner, name) in PARTS.items():
            self._plain[part] = getattr(owner, name)
            setattr(owner, name, self._counting(part, self._plain[part]))
        return self._seconds

    def __exit__(self, *_: object) -> None:
        for part, (owner, name) in PARTS.items():
            setattr(owner, name, self._plain[part])

    def _counting(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            started = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                self._seconds[part] += time.thread_time() - started

        return counted


if __name__ == "__main__":
    main("feeding", measure)
