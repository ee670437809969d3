"""How long the plan of an epoch takes, how much memory, and how many bytes it makes the readers read in vain."""

import json
import multiprocessing
import os
import tempfile
import time
import tracemalloc
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import WeightedRandomSampler

from benchmarks.report import Table, interleaved, main
from benchmarks.synthetic import synthetic_split
from ltrsys.data.config import make_sampler
from ltrsys.data.index.dataset import Split
from ltrsys.data.plan.planner import Planner
from ltrsys.data.plan.samplers.base import Sampler
from ltrsys.data.plan.samplers.powers import Power

EPOCHS = 90
RANKS = 2
COUNTS_FILE = Path(__file__).parent / "inaturalist_2018_fitted_class_counts.json"
SAMPLERS = [
    make_sampler(),
    make_sampler(kind="power", q=0.75),
    make_sampler(kind="square_root"),
    make_sampler(kind="power", q=0.25),
    make_sampler(kind="class_balanced"),
    make_sampler(kind="progressive"),
    make_sampler(kind="class_aware"),
]


def inaturalist_counts() -> NDArray[np.int64]:
    """Return class counts fitted to what is published of iNaturalist 2018: not the data set's own."""
    return np.array(json.loads(COUNTS_FILE.read_text())["counts"])


def measure(quick: bool) -> list[Table]:
    """Measure at iNaturalist's size, along growing sizes, and shared by the ranks of a node."""
    factors = [1, 2, 5] if quick else [1, 4, 16, 64, 229]
    largest = inaturalist_counts() * factors[-1]
    return [_samplers(rounds=2 if quick else 9), _growth(factors), _shared(synthetic_split(largest))]


def _samplers(rounds: int) -> Table:
    split = synthetic_split(inaturalist_counts())
    weights = torch.from_numpy(1 / split.class_counts[split.label])
    planners = {_name(sampler): _planner(split, sampler) for sampler in SAMPLERS}
    peer = WeightedRandomSampler(weights, len(split))  # type: ignore[arg-type]
    cases = {name: lambda planner=planner: _seconds(planner, 45) for name, planner in planners.items()}
    times = interleaved(cases | {"peer": lambda: _timed(lambda: list(peer))}, rounds)
    peer_seconds = median(times.pop("peer"))
    rows = []
    for name, planner in planners.items():
        spanned, used = planner.bytes_spanned(45)
        rows.append(
            {
                "sampler": name,
                "seconds": median(times[name]),
                "of the peer's time": median(times[name]) / peer_seconds,
                "bytes a sample": _peak_bytes(planner, 45) / len(split),
                "bytes spanned / used": spanned / used,
            }
        )
    notes = [
        f"Epoch 46 of {EPOCHS}, {len(split):,} samples of {len(split.class_counts):,} classes (fitted counts).",
        f"The peer is torch's WeightedRandomSampler (class-balanced, in one process): {peer_seconds:.3f} s.",
        "Memory is the peak of what making the plan allocates, the plan itself included.",
    ]
    return Table("An epoch's plan at the size of iNaturalist 2018", list(rows[0]), rows, notes)


def _growth(factors: list[int]) -> Table:
    rows = []
    for factor in factors:
        split = synthetic_split(inaturalist_counts() * factor)
        planner = _planner(split, make_sampler(kind="class_balanced"))
        seconds = median([_seconds(planner, 45) for _ in range(3)])
        rows.append(
            {
                "samples": len(split),
                "seconds": seconds,
                "ns a sample": seconds / len(split) * 1e9,
                "bytes a sample": _peak_bytes(planner, 45) / len(split),
            }
        )
    return Table("Class-balanced, from small to large", list(rows[0]), rows)


def _shared(split: Split) -> Table:
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as cache, context.Manager() as manager:
        results = manager.list()
        started = time.perf_counter()
        ranks = [context.Process(target=_use_shared, args=(split, Path(cache), results)) for _ in range(RANKS)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        rows: list[dict[str, Any]] = [
            {"rank": number, "seconds": done - started, "private bytes a sample": private / len(split)}
            for number, (done, private) in enumerate(sorted(results))
        ]
        files = sum(path.stat().st_size for path in Path(cache).glob("*.npy"))
    notes = [
        f"{RANKS} ranks ask at once for a plan of {len(split):,} samples: one makes it, all map {files / 1e6:,.0f} MB.",
        "Private memory is measured with the plan at hand and read through once.",
    ]
    return Table("One plan a node", list(rows[0]), rows, notes)


def _use_shared(split: Split, cache: Path, results: Any) -> None:
    before = _private_bytes()
    plan = Planner(split, make_sampler(kind="class_balanced"), seed=0, num_epochs=EPOCHS, cache=cache).epoch(45)
    int(plan.order.sum())
    results.append((time.perf_counter(), _private_bytes() - before))


def _private_bytes() -> int:
    """Return the memory that this process shares with no other, in bytes."""
    fields = dict(line.split()[:2] for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return (int(fields["Private_Dirty:"]) + int(fields["Private_Clean:"])) * 1024


def _planner(split: Split, sampler: Sampler) -> Planner:
    return Planner(split, sampler, seed=0, num_epochs=EPOCHS, batch_size=512)


def _seconds(planner: Planner, epoch: int) -> float:
    return _timed(lambda: planner.epoch(epoch))


def _timed(task: Any) -> float:
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


def _peak_bytes(planner: Planner, epoch: int) -> int:
    tracemalloc.start()
    try:
        planner.epoch(epoch)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _name(sampler: Sampler) -> str:
    return f"q = {sampler.q}" if isinstance(sampler, Power) else sampler.kind


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main("plan", measure)
