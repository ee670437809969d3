"""Images a second of the input pipeline beside three others, and bytes read for each byte used."""

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
from torch import Tensor

from benchmarks.input_bytes import bytes_table
from benchmarks.input_contenders import dali_reader, ours, torch_loader, webdataset_loader
from benchmarks.photographs import photograph_source
from benchmarks.plan import inaturalist_counts
from benchmarks.report import Table, interleaved, main, summary
from ltrsys.data.config import make_sampler
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards

BATCH_SIZE = 64
WORKERS = 2
SETTLING_BATCHES = 6
"""Not timed at the start of a turn: what a contender had made ahead while the others were at work."""

IDLE_SECONDS = 0.2
"""A worker process that used no processor for so long has filled its queue."""


def measure(quick: bool) -> list[Table]:
    """Measure the speed on photographs, and the bytes at iNaturalist's size."""
    counts = inaturalist_counts()[:: 20 if quick else 1]
    with tempfile.TemporaryDirectory() as folder:
        bytes_read = bytes_table(counts, Path(folder) / "hollow", ranks=1 if quick else 8, lanes=12 if quick else 192)
        return [_speed(Path(folder), quick), bytes_read]


def _speed(folder: Path, quick: bool) -> Table:
    counts = np.maximum(1, (400 / np.arange(1, 41) ** 1.1).astype(np.int64)) if not quick else np.full(8, 32)
    options = BuildOptions(max_shard_bytes=(2 if quick else 8) * 2**20)
    shards = folder / "photographs"
    split = build_shards(photograph_source(counts), shards, options, workers=WORKERS).split("train")
    files = [split.shard_path(shard) for shard in range(len(split.record.shards))]
    contenders = {
        "ours, instance": ours(split, shards, sampler=make_sampler(), batch_size=BATCH_SIZE, threads=WORKERS),
        "ours, class_balanced": ours(
            split, shards, sampler=make_sampler(kind="class_balanced"), batch_size=BATCH_SIZE, threads=WORKERS
        ),
        "DALI's webdataset reader": dali_reader(files, batch_size=BATCH_SIZE, threads=WORKERS),
        "torch DataLoader": torch_loader(split, batch_size=BATCH_SIZE, workers=WORKERS),
        "webdataset WebLoader": webdataset_loader(files, batch_size=BATCH_SIZE, workers=WORKERS),
    }
    batches, rounds = (2, 1) if quick else (20, 15)
    cases = {name: lambda stream=stream: images_per_second(stream, batches) for name, stream in contenders.items()}
    speeds = interleaved(cases, rounds)
    own = speeds["ours, instance"]
    rows = []
    for name, measured in speeds.items():
        values = summary(measured)
        turn_by_turn = summary([mine / its for mine, its in zip(own, measured, strict=True)])
        rows.append(
            {
                "pipeline": name,
                "images/s": values["median"],
                "p20": values["p20"],
                "p80": values["p80"],
                "ours / it": turn_by_turn["median"],
            }
        )
    notes = [
        f"{len(split):,} JPEGs, short side 300, {split.size.mean() / 1e3:.1f} kB on average; batches of {BATCH_SIZE}; "
        f"{WORKERS} threads or workers each; {rounds} turns of {batches} batches, in turn and in changing order.",
        "Medians; ours / it is the median of the ratios of one turn each, so that a slow minute cancels out.",
    ]
    return Table("Images a second", list(rows[0]), rows, notes)


def images_per_second(stream: Iterator[Tensor], batches: int) -> float:
    """Return how many images a second come in so many batches, once the stream has settled."""
    _wait_for_idle_workers()
    for _ in islice(stream, SETTLING_BATCHES):
        pass
    started = time.perf_counter()
    images = sum(len(images) for images in islice(stream, batches))
    return images / (time.perf_counter() - started)


def _wait_for_idle_workers() -> None:
    """Let the worker processes of the last turn fill their queues: they would take this turn's cores."""
    workers = multiprocessing.active_children()
    before, now = -1.0, 0.0
    while now != before:
        time.sleep(IDLE_SECONDS)
        before, now = now, sum(sum(psutil.Process(worker.pid).cpu_times()[:2]) for worker in workers)


if __name__ == "__main__":
    main("input", measure)
