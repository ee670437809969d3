"""Checking a built dataset to the last byte: the index against itself, and every shard against the index."""

import hashlib
import io
import tarfile
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from ltrsys.data.index.columns import COLUMNS, checksum, column_digest, column_path
from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.index.records import SPLITS, SplitName, first_keys
from ltrsys.data.reading.opening import open_files
from ltrsys.data.shards.tar import BLOCK, JPEG_OFFSET, sample_key
from ltrsys.data.validation.workers import run_tasks
from ltrsys.errors import DataError
from ltrsys.progress import progress

REBUILD_SHARD = "Delete this shard and run the same `ltrsys shards` command again."


def verify(dataset: Dataset, *, workers: int = 1) -> Iterator[str]:
    """Yield one line for each shard or split that is not what the index says: what, where and what to do.

    Reads every byte, a remote shard's by way of the cache: checksums, the two members of each sample, their labels
    and the images' sizes.

    Args:
        dataset: What to check.
        workers: Processes that read.

    Raises:
        DataError: Where a column of the index is missing or has another length, or a remote shard is given up.
    """
    splits = [dataset.split(name) for name in SPLITS if dataset.has(name)]
    inconsistent = [problem for split in splits if (problem := check_index(split, dataset.num_classes))]
    if inconsistent:
        yield from inconsistent
        return
    tasks = [(dataset, split.name, shard) for split in splits for shard in range(len(split.record.shards))]
    whole = True
    with run_tasks(min(workers, len(tasks))) as run, progress("verifying shards", len(tasks)) as advance:
        for problem in run(check_shard, tasks):
            if problem:
                whole = False
                yield problem
            advance()
    if whole:
        yield from (problem for split in splits if (problem := check_columns(split)))


def check_index(split: Split, num_classes: int) -> str | None:
    """Return what contradicts itself in the columns and the record of a split."""
    record = split.record
    advice = f"Delete {split.folder.parent / 'dataset.json'} and run the same `ltrsys shards` command again."
    if len(split) and not 0 <= int(split.label.min()) <= int(split.label.max()) < num_classes:
        sample = int(np.flatnonzero((split.label < 0) | (split.label >= num_classes))[0])
        return f"{split.folder}: sample {sample} has label {split.label[sample]} of {num_classes} classes. {advice}"
    if not np.array_equal(np.bincount(split.label, minlength=num_classes), split.class_counts):
        return f"{split.folder}: the labels do not add up to the class counts of dataset.json. {advice}"
    if not _fits_shards(split):
        return f"{split.folder}: the shard column does not fit the shards of dataset.json. {advice}"
    ends = np.cumsum([stratum.samples for stratum in record.strata], dtype=np.int64)
    firsts = [stratum.first for stratum in record.strata]
    if firsts != [0, *ends[:-1].tolist()] or int(ends[-1]) != len(split):
        return f"{split.folder}: the strata of dataset.json do not cover its samples. {advice}"
    return None


def _fits_shards(split: Split) -> bool:
    """Whether the shard column counts through the shards, and through those that were appended between them."""
    shards = split.record.shards
    samples, appended = (np.array([getattr(shard, name) for shard in shards]) for name in ("samples", "appended"))
    if len(split) and int(split.shard.max()) >= len(shards):
        return False
    between = appended[split.shard]
    return all(
        np.array_equal(split.shard[between == kind], np.repeat(numbers, samples[numbers]))
        for kind, numbers in ((False, np.flatnonzero(~appended)), (True, np.flatnonzero(appended)))
    )


def check_columns(split: Split) -> str | None:
    """Return which file of a split's index has changed since it was written."""
    for column in COLUMNS:
        if column_digest(split.folder, column) != split.record.columns.get(column):
            return (
                f"{column_path(split.folder, column)}: its checksum is not that of dataset.json. Delete "
                f"{split.folder.parent / 'dataset.json'} and run the same `ltrsys shards` command again."
            )
    return None


def check_shard(dataset: Dataset, name: SplitName, shard: int) -> str | None:
    """Return what is wrong with one shard, naming the first sample that it concerns."""
    split = dataset.split(name)
    record, path = split.record.shards[shard], split.shard_place(shard)
    samples = np.flatnonzero(split.shard == shard)
    first_key = first_keys(split.record.shards)[shard]
    files = open_files(split)
    try:
        file = files.open(shard)
        size = file.bytes
        content = file.read(0, size)
    except FileNotFoundError:
        return (
            f"{path}: this shard, of samples {samples[0]} to {samples[-1]}, is missing. Copy it here again, or run "
            "the same `ltrsys shards` command again."
        )
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror}. {REBUILD_SHARD}"
    finally:
        files.close()
    if size < record.bytes:
        ends = split.offset[samples] + split.size[samples]
        lost = samples[ends > size]
        first = f"sample {lost[0]} is the first that is cut off" if len(lost) else "only its end mark is cut off"
        return f"{path}: truncated: {size} of {record.bytes} bytes are there, and {first}. {REBUILD_SHARD}"
    if size > record.bytes:
        return f"{path}: {size} bytes long instead of {record.bytes}. {REBUILD_SHARD}"
    intact = hashlib.sha256(content).hexdigest() == record.sha256
    for key, sample in enumerate(samples, start=first_key):
        try:
            _check_sample(split, int(sample), sample_key(key), content)
        except DataError as error:
            whose = (
                f"The shard is intact, so the index belongs to another build: delete {dataset.folder} and run "
                "`ltrsys shards` again."
                if intact
                else REBUILD_SHARD
            )
            return f"{split.describe(int(sample))}: {error}. {whose}"
    return None if intact else f"{path}: its checksum is not that of dataset.json. {REBUILD_SHARD}"


def _check_sample(split: Split, sample: int, key: str, content: bytes) -> None:
    offset, size = int(split.offset[sample]), int(split.size[sample])
    if offset < JPEG_OFFSET or offset + size > len(content):
        raise DataError(f"the index points to bytes {offset} to {offset + size} of {len(content)}")
    label, label_at = _member(content, offset - JPEG_OFFSET)
    jpeg, jpeg_at = _member(content, offset - BLOCK)
    if (label.name, jpeg.name) != (f"{key}.cls", f"{key}.jpg"):
        raise DataError(f"the shard has `{label.name}` and `{jpeg.name}` there")
    if jpeg.size != size:
        raise DataError(f"the image has {jpeg.size} bytes, but {size} in the index")
    found = content[label_at : label_at + label.size]
    if found != str(int(split.label[sample])).encode():
        raise DataError(f"class {found.decode(errors='replace')}, but {split.label[sample]} in the index")
    try:
        shape = Image.open(io.BytesIO(content[jpeg_at : jpeg_at + size])).size
    except UnidentifiedImageError:
        raise DataError("there is no JPEG at this place") from None
    if shape != (split.width[sample], split.height[sample]):
        in_index = f"{split.width[sample]} x {split.height[sample]}"
        raise DataError(f"the image has {shape[0]} x {shape[1]} pixels, but {in_index} in the index")
    if checksum(content[jpeg_at : jpeg_at + size]) != split.checksum[sample]:
        raise DataError("its bytes do not have the checksum of the index")


def _member(content: bytes, offset: int) -> tuple[tarfile.TarInfo, int]:
    """Return the member whose header is at `offset`, and where its data starts."""
    try:
        header = tarfile.TarInfo.frombuf(content[offset : offset + BLOCK], "utf-8", "replace")
    except tarfile.HeaderError as error:
        raise DataError(f"there is no member of a tar file at byte {offset} ({error})") from None
    return header, offset + BLOCK
