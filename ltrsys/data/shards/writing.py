"""Writing a source as WebDataset shards with an index: checked, class-stratified, in parallel, resumable.

    1. every image is checked and spooled, in chunks;             OUT/.build/spool/<split>/
    2. the order of the samples follows from what passed;
    3. shards are written from the spool, each whole or absent;   OUT/<split>/shards/
    4. the index, `rejected.jsonl` and, last, `dataset.json`; the spool is removed.

`OUT/build.json` says what is built here, so that the same command continues and another one is refused. Until the
end the spool takes as much space again as the shards.
"""

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.columns import write_columns
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import DatasetRecord, ShardRecord, SplitName, SplitRecord, StratumRecord, write_record
from ltrsys.data.shards.build_folder import BuildOptions, claimed, describe_build, finished_dataset
from ltrsys.data.shards.layout import stratified_order
from ltrsys.data.shards.staging import CHUNK, Rejected, Spool
from ltrsys.data.shards.tar import jpeg_offsets, sample_bytes, tar_bytes, write_tar
from ltrsys.data.shards.workers import RunTasks, run_tasks
from ltrsys.data.sources.source import Source
from ltrsys.errors import DataError
from ltrsys.files import read_json, replaced, write_json
from ltrsys.progress import progress

log = logging.getLogger("ltrsys")


@dataclass(frozen=True)
class _Split:
    """The images of a split that passed the door, in the order of the source; arrays of shape [samples]."""

    labels: NDArray[np.int64]
    images: NDArray[np.int64]
    """Place of the image in the source's list."""
    spool_offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    checksums: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: NDArray[np.int64] | slice) -> "_Split":
        """Return the samples at `places`."""
        return _Split(*(getattr(self, name)[places] for name in self.__dataclass_fields__))


def build_shards(
    source: Source,
    out: Path,
    options: BuildOptions | None = None,
    *,
    workers: int = 1,
    on_reject: Literal["refuse", "list"] = "refuse",
) -> Dataset:
    """Build the shards of `source` in the folder `out`, or finish what an earlier call began there.

    The bytes depend on the source and the options alone, not on the number of workers or on interruptions.

    Args:
        source: What to build from.
        out: A new folder, an empty one, or one of the same build.
        options: What decides the bytes.
        workers: Processes that decode and write.
        on_reject: Whether an image that does not pass the door ends the build or is left out and listed in
            `rejected.jsonl`.

    Raises:
        DataError: For a rejected image, or a folder that holds something else.
        LtrsysError: For a full disk, or a build that is running in the same folder.
    """
    options = options or BuildOptions()
    with claimed(out, describe_build(source, options)):
        if (finished := finished_dataset(out)) is not None:
            log.info("%s: built already from this list of images with these options: nothing to do.", out)
            return finished
        num_chunks = sum(-(-len(items) // CHUNK) for items in source.splits.values())
        with run_tasks(min(workers, num_chunks)) as run:
            splits, rejected = _check_images(source, out, options, run, refuse=on_reject == "refuse")
            _warn_of_empty_classes(source, splits)
            records = {name: _write_split(name, split, source, out, options, run) for name, split in splits.items()}
        _write_rejected(out, rejected)
        record = DatasetRecord(
            name=source.name,
            source=source.kind,
            seed=options.seed,
            resize=options.resize,
            bands_per_octave=options.bands_per_octave,
            classes=source.classes,
            splits=records,
        )
        write_record(out, record)
        shutil.rmtree(out / ".build")
    return Dataset.open(out)


def _check_images(
    source: Source, out: Path, options: BuildOptions, run: RunTasks, *, refuse: bool
) -> tuple[dict[SplitName, _Split], list[tuple[SplitName, Rejected]]]:
    splits: dict[SplitName, _Split] = {}
    rejected: list[tuple[SplitName, Rejected]] = []
    with progress("checking images", sum(map(len, source.splits.values()))) as advance:
        for name, items in source.splits.items():
            spool = Spool(_spool_folder(out, name))
            tasks = [
                (spool, number, items.part(first, first + CHUNK), source.read, options.resize, refuse)
                for number, first in enumerate(range(0, len(items), CHUNK))
            ]
            chunks = []
            for chunk in run(Spool.fill, tasks):
                chunks.append(chunk)
                rejected += [(name, image) for image in chunk.rejected]
                advance(len(chunk.sizes))
            sizes, widths, heights, checksums = (
                np.concatenate([getattr(chunk, column) for chunk in chunks] or [np.zeros(0, np.int64)])
                for column in ("sizes", "widths", "heights", "checksums")
            )
            passed = np.flatnonzero(sizes)
            offsets = np.concatenate([np.cumsum(chunk.sizes) - chunk.sizes for chunk in chunks] or [sizes])
            every = _Split(
                items.labels.astype(np.int64), np.arange(len(items)), offsets, sizes, widths, heights, checksums
            )
            splits[name] = every.take(passed)
    if not len(splits["train"]):
        raise DataError(f"{source.name}: no training image is left; see the reasons with --on-reject refuse.")
    return splits, rejected


def _warn_of_empty_classes(source: Source, splits: dict[SplitName, _Split]) -> None:
    counts = {name: np.bincount(split.labels, minlength=len(source.classes)) for name, split in splits.items()}
    everywhere = sum(counts.values())
    if len(gaps := np.flatnonzero(everywhere == 0)):
        log.warning("No image at all of %s: the class ids stay as they are.", _some_classes(source, gaps))
    if len(untrained := np.flatnonzero((counts["train"] == 0) & (everywhere > 0))):
        log.warning("No training image of %s: no classifier can learn them.", _some_classes(source, untrained))


def _some_classes(source: Source, labels: NDArray[np.int64], most: int = 5) -> str:
    named = ", ".join(f"{label} ({source.classes[label].name})" for label in labels[:most])
    return f"class {named}" + (f" and {len(labels) - most} more" if len(labels) > most else "")


def _write_split(
    name: SplitName, split: _Split, source: Source, out: Path, options: BuildOptions, run: RunTasks
) -> SplitRecord:
    num_classes = len(source.classes)
    if name == "train":
        order, strata = stratified_order(
            split.labels.astype(np.int32), num_classes, bands_per_octave=options.bands_per_octave, seed=options.seed
        )
        split = split.take(order)
    else:
        strata = [StratumRecord(band=0, first=0, samples=len(split))] if len(split) else []
    starts = _shard_starts(split.sizes, strata, options.max_shard_bytes)
    ends = np.append(starts, len(split))[1:]
    spool = Spool(_spool_folder(out, name))
    tasks = [
        (out, name, number, int(start), split.take(slice(start, end)), spool)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    shards = []
    with progress(f"writing {name} shards", len(split)) as advance:
        for shard in run(_write_shard, tasks):
            shards.append(shard)
            advance(shard.samples)
    columns = write_columns(
        out / name,
        {
            "label": split.labels.astype(np.int32),
            "shard": np.repeat(np.arange(len(starts)), ends - starts).astype(np.uint32),
            "offset": np.concatenate([jpeg_offsets(task[4].sizes) for task in tasks] or [split.sizes]).astype(
                np.uint64
            ),
            "size": split.sizes.astype(np.uint32),
            "width": split.widths.astype(np.uint16),
            "height": split.heights.astype(np.uint16),
            "checksum": split.checksums.astype(np.uint32),
        },
    )
    counts = np.bincount(split.labels, minlength=num_classes)
    return SplitRecord(samples=len(split), shards=shards, strata=strata, class_counts=counts.tolist(), columns=columns)


def _shard_starts(sizes: NDArray[np.int64], strata: list[StratumRecord], max_shard_bytes: int) -> NDArray[np.int64]:
    """Return the first sample of each shard: strata begin new ones, and are cut into equal parts."""
    starts = []
    for stratum in strata:
        taken = sample_bytes(sizes[stratum.first : stratum.first + stratum.samples])
        before, total = np.cumsum(taken) - taken, int(taken.sum())
        parts = -(-total // max_shard_bytes)
        part = before * parts // total
        starts.append(stratum.first + np.flatnonzero(np.diff(part, prepend=-1)))
    return np.concatenate(starts) if starts else np.zeros(0, np.int64)


def _write_shard(out: Path, name: SplitName, number: int, first: int, samples: _Split, spool: Spool) -> ShardRecord:
    path = out / name / "shards" / f"{name}-{number:06d}.tar"
    done = out / ".build" / "shards" / f"{path.stem}.json"
    if done.exists() and path.exists():
        return ShardRecord.model_validate(read_json(done, "record of a shard"))
    jpegs = spool.read(samples.images, samples.spool_offsets, samples.sizes)
    with replaced(path) as file:
        sha256 = write_tar(file, first, samples.labels.tolist(), jpegs)
    record = ShardRecord(name=path.name, samples=len(samples), bytes=tar_bytes(samples.sizes), sha256=sha256)
    assert path.stat().st_size == record.bytes
    write_json(done, record.model_dump())
    return record


def _write_rejected(out: Path, rejected: list[tuple[SplitName, Rejected]]) -> None:
    path = out / "rejected.jsonl"
    if not rejected:
        path.unlink(missing_ok=True)
        return
    with replaced(path, "w") as file:
        for split, image in rejected:
            file.write(json.dumps({"split": split, **asdict(image)}, ensure_ascii=False) + "\n")
    log.warning("%d images were left out; %s says which and why.", len(rejected), path)


def _spool_folder(out: Path, name: SplitName) -> Path:
    return out / ".build" / "spool" / name
