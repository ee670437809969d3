"""What one rank of several reads at iNaturalist's size, and what a node needs of the shards."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Table
from benchmarks.synthetic import synthetic_split
from ltrsys.data.config import make_sampler
from ltrsys.data.index.dataset import Split
from ltrsys.data.index.records import ShardRecord
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.data.plan.samplers.base import Sampler
from ltrsys.data.plan.samplers.powers import Power
from ltrsys.data.reading.reader import ShardReader
from ltrsys.data.shards.build_folder import MAX_SHARD_BYTES
from ltrsys.data.shards.tar import jpeg_offsets, tar_bytes
from ltrsys.world import World

EPOCHS = 90
BATCH_SIZE = 512
NODES, RANKS_A_NODE = 8, 8


def bytes_table(class_counts: NDArray[np.int64], folder: Path, *, ranks: int, lanes: int) -> Table:
    """Let the first of `ranks` read an epoch of each sampler from shards that are holes but for their size."""
    split = _with_hollow_shards(synthetic_split(class_counts), folder)
    weights = folder / "weights.json"
    weights.write_text(json.dumps((1 / np.maximum(class_counts, 20) ** 0.5).tolist()))
    cases = [
        (make_sampler(), 0),
        (make_sampler(kind="power", q=0.75), 45),
        (make_sampler(kind="square_root"), 45),
        (make_sampler(kind="power", q=0.25), 45),
        (make_sampler(kind="class_balanced"), 45),
        (make_sampler(kind="progressive"), 0),
        (make_sampler(kind="progressive"), 30),
        (make_sampler(kind="progressive"), 60),
        (make_sampler(kind="progressive"), 89),
        (make_sampler(kind="class_aware"), 45),
        (make_sampler(kind="weights", weights=weights), 45),
    ]
    rows = []
    for sampler, epoch in cases:
        planner = Planner(split, sampler, seed=0, num_epochs=EPOCHS, lanes=lanes, batch_size=BATCH_SIZE)
        batching = Batching(BATCH_SIZE, BATCH_SIZE // ranks, World(0, ranks), lanes, planner.samples_per_draw)
        reader = ShardReader(split)
        _read_epoch(reader, planner, batching, epoch)
        counts = reader.amplification
        spanned, used = planner.bytes_spanned(epoch)
        rows.append(
            {
                "sampler": f"power {sampler.q}" if isinstance(sampler, Power) else sampler.kind,
                "epoch": epoch + 1,
                "GB used": counts.bytes_used / 1e9,
                "read / used": counts.bytes_read / counts.bytes_used,
                "requests an image": counts.requests / (planner.samples_per_epoch / ranks),
                "spanned / used": spanned / used,
                "shards of a node": _shards_of_a_node(split, sampler, epoch)
                if lanes % (NODES * RANKS_A_NODE) == 0
                else None,
            }
        )
    notes = [
        f"Rank 1 of {ranks}, {lanes} lanes; {len(split):,} samples of {len(class_counts):,} classes (fitted counts) of "
        f"10 to 50 kB in {len(split.record.shards)} shards; epochs of {EPOCHS}.",
        "read: what the reader asks of the kernel; an image that is drawn twice within the same 64 MB is read once.",
        "spanned: from the first to the last sample that a lane takes from a stratum, those between included.",
        f"shards of a node: the part of all shards that the first of {NODES} nodes of {RANKS_A_NODE} ranks needs in "
        "the epoch.",
    ]
    return Table("Bytes read for each byte used", list(rows[0]), rows, notes)


def _shards_of_a_node(split: Split, sampler: Sampler, epoch: int) -> float:
    planner = Planner(split, sampler, seed=0, num_epochs=EPOCHS, batch_size=BATCH_SIZE)
    plan, ranks = planner.epoch(epoch), NODES * RANKS_A_NODE
    needed = set()
    for rank in range(RANKS_A_NODE):
        batching = Batching(
            BATCH_SIZE, BATCH_SIZE // ranks, World(rank, ranks), planner.lanes, planner.samples_per_draw
        )
        steps = np.arange(batching.steps_per_epoch(len(plan)))
        positions = batching.positions(0, 0) + BATCH_SIZE * steps[:, None]
        needed.update(split.shard[plan.samples(positions)].reshape(-1).tolist())
    return len(needed) / len(split.record.shards)


def _read_epoch(reader: ShardReader, planner: Planner, batching: Batching, epoch: int) -> None:
    plan = planner.epoch(epoch)
    steps = batching.steps_per_epoch(len(plan))
    mean_bytes = float(planner.split.size.mean())
    block = max(1, int(reader.block_bytes / (mean_bytes * batching.micro_batch_size)))
    for first in range(0, steps, block):
        positions = np.concatenate([batching.positions(step, 0) for step in range(first, min(first + block, steps))])
        reader.announce(plan.samples(positions))


def _with_hollow_shards(split: Split, folder: Path) -> Split:
    """Return `split` with shards of the right sizes and places, which take no space."""
    sizes = split.size.astype(np.int64)
    shard = (np.cumsum(sizes) // MAX_SHARD_BYTES).astype(np.uint32)
    offset = np.empty(len(split), dtype=np.uint64)
    records = []
    (folder / "shards").mkdir(parents=True)
    for number in range(int(shard[-1]) + 1):
        own = shard == number
        offset[own] = jpeg_offsets(sizes[own])
        records.append(
            ShardRecord(name=f"train-{number:06d}.tar", samples=own.sum(), bytes=tar_bytes(sizes[own]), sha256="")
        )
        with open(folder / "shards" / records[-1].name, "wb") as file:
            file.truncate(records[-1].bytes)
    record = split.record.model_copy(update={"shards": records})
    return replace(split, folder=folder, record=record, shard=shard, offset=offset)
