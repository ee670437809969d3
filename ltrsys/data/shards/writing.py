"""Writing the shards and the index of one split: each file whole or absent, and none twice."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.columns import write_columns
from ltrsys.data.index.dataset import Split
from ltrsys.data.index.records import ShardRecord, SplitName, SplitRecord, StratumRecord, first_keys
from ltrsys.data.shards.build_folder import ready_folder
from ltrsys.data.shards.manifest import write_manifest
from ltrsys.data.shards.tar import jpeg_offsets, sample_bytes, tar_bytes, write_tar
from ltrsys.data.validation.staging import Staged, jpegs_of
from ltrsys.data.validation.workers import RunTasks, run_here
from ltrsys.files import read_json, replaced, write_json
from ltrsys.progress import progress

WORTH_A_PROCESS = 512 * 2**20
"""Bytes that take longer to write than processes take to start."""


@dataclass(frozen=True)
class Samples:
    """The samples of a split, in their order."""

    staged: Staged
    labels: NDArray[np.int64]
    """Class id of each, [samples]."""
    strata: list[StratumRecord]
    kept: list[list[ShardRecord]]
    """The shards of an earlier build that stay, of each stratum, [strata]."""
    written: NDArray[np.bool_]
    """Which samples are not in these, and are to be written, [samples]."""
    next_key: int = 0
    """The key of the first sample that is written: higher than all of an earlier build."""
    next_shard: int = 0
    """The same for the number of the first shard."""


def write_split(
    name: SplitName, samples: Samples, out: Path, num_classes: int, max_shard_bytes: int, run: RunTasks
) -> SplitRecord:
    """Write the shards of a split, and its index and manifest into the folder of what is ready.

    Args:
        name: The split.
        samples: What it holds.
        out: The folder of the build.
        num_classes: Classes of the dataset.
        max_shard_bytes: A shard is not larger, but for one sample.
        run: Runs the work in other processes.
    """
    staged = samples.staged
    offsets, shard_of_sample = staged.offsets.copy(), np.zeros(len(staged), np.int64)
    shards: list[ShardRecord | None] = []
    tasks, places = [], []
    key, number = samples.next_key, samples.next_shard
    for stratum, kept in zip(samples.strata, samples.kept, strict=True):
        shards += kept
        new = stratum.first + np.flatnonzero(samples.written[stratum.first : stratum.first + stratum.samples])
        for own in np.split(new, _cuts(staged.sizes[new], max_shard_bytes)) if len(new) else []:
            offsets[own], shard_of_sample[own] = jpeg_offsets(staged.sizes[own]), len(shards)
            places.append(len(shards))
            shards.append(None)
            tasks.append((out, name, number, key, bool(kept), samples.labels[own], staged.take(own)))
            key, number = key + len(own), number + 1
    with progress(f"writing {name} shards", sum(len(task[-1]) for task in tasks)) as advance:
        small = sum(int(task[-1].sizes.sum()) for task in tasks) < WORTH_A_PROCESS
        for place, record in zip(places, (run_here if small else run)(_write_shard, tasks), strict=True):
            shards[place] = record
            advance(record.samples)
    records = _with_keys([record for record in shards if record is not None])
    number_of_name = {record.name: number for number, record in enumerate(records)}
    number_of_file = np.array([number_of_name.get(path.name, -1) for path in staged.paths], np.int64)
    kept_samples = np.flatnonzero(~samples.written)
    shard_of_sample[kept_samples] = number_of_file[staged.files[kept_samples]]
    folder = ready_folder(out) / name
    columns = write_columns(
        folder,
        {
            "label": samples.labels.astype(np.int32),
            "shard": shard_of_sample.astype(np.uint32),
            "offset": offsets.astype(np.uint64),
            "size": staged.sizes.astype(np.uint32),
            "width": staged.widths.astype(np.uint16),
            "height": staged.heights.astype(np.uint16),
            "checksum": staged.checksums.astype(np.uint32),
        },
    )
    write_manifest(folder, staged)
    counts = np.bincount(samples.labels, minlength=num_classes)
    return SplitRecord(
        samples=len(staged), shards=records, strata=samples.strata, class_counts=counts.tolist(), columns=columns
    )


def following(split: Split) -> tuple[int, int]:
    """Return the key and the number of a shard that come after all of a split."""
    shards = split.record.shards
    keys = [key + shard.samples for key, shard in zip(first_keys(shards), shards, strict=True)]
    numbers = [int(found.group(1)) + 1 for shard in shards if (found := re.search(r"(\d+)\.tar$", shard.name))]
    return max(keys, default=0), max(numbers, default=0)


def _with_keys(shards: list[ShardRecord]) -> list[ShardRecord]:
    """Leave out the keys that are the ids of the samples."""
    firsts = np.cumsum([0, *(shard.samples for shard in shards)])
    return [
        shard.model_copy(update={"first_key": None if shard.first_key == first else shard.first_key})
        for shard, first in zip(shards, firsts[:-1].tolist(), strict=True)
    ]


def _cuts(sizes: NDArray[np.int64], max_shard_bytes: int) -> NDArray[np.int64]:
    """Return where new shards begin within a stratum, which is cut into equal parts; not the first."""
    taken = sample_bytes(sizes)
    before, total = np.cumsum(taken) - taken, int(taken.sum())
    parts = -(-total // max_shard_bytes)
    return 1 + np.flatnonzero(np.diff(before * parts // total))


def _write_shard(
    out: Path, name: SplitName, number: int, key: int, appended: bool, labels: NDArray[np.int64], staged: Staged
) -> ShardRecord:
    path = out / name / "shards" / f"{name}-{number:06d}.tar"
    done = out / ".build" / "shards" / f"{path.stem}.json"
    holds = _digest(key, appended, labels, staged)
    if done.exists() and path.exists():
        record = read_json(done, "record of a shard")
        if record["holds"] == holds:  # and not other images, of the same command before some were replaced
            return ShardRecord.model_validate(record["shard"])
    with replaced(path) as file:
        sha256 = write_tar(file, key, labels.tolist(), jpegs_of(staged))
    record = ShardRecord(
        name=path.name,
        samples=len(staged),
        bytes=tar_bytes(staged.sizes),
        sha256=sha256,
        first_key=key,
        appended=appended,
    )
    assert path.stat().st_size == record.bytes
    write_json(done, {"holds": holds, "shard": record.model_dump()})
    return record


def _digest(key: int, appended: bool, labels: NDArray[np.int64], staged: Staged) -> str:
    digest = hashlib.sha256(f"{key} {appended}\n".encode())
    for values in (labels, staged.sizes, staged.checksums, staged.pixels):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
