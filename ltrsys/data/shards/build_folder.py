"""The folder of a build: what is built in it, by whom, and whether it is finished.

`OUT/build.json` says what is built, so that the same command continues and another one is refused; `OUT/.build`
holds what is not needed afterwards.
"""

import fcntl
import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import PIL
from PIL import features

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.shards.images import QUALITY
from ltrsys.data.sources.source import Source
from ltrsys.errors import DataError, LtrsysError
from ltrsys.files import explained, read_json, write_json

log = logging.getLogger("ltrsys")

MAX_SHARD_BYTES = 128 * 2**20


@dataclass(frozen=True)
class BuildOptions:
    """What decides the bytes of the shards, besides the source."""

    seed: int = 0
    resize: int | None = None
    """The short side of larger images is reduced to this, in pixels."""
    bands_per_octave: int = 4
    """Strata for a doubling of the class frequency."""
    max_shard_bytes: int = MAX_SHARD_BYTES
    """A shard is not larger, but for one sample."""


def describe_build(source: Source, options: BuildOptions) -> dict[str, Any]:
    """Return what must be equal for two builds to make the same bytes."""
    listed = hashlib.sha256()
    for split, items in source.splits.items():
        listed.update(f"{split} {len(items)}\n".encode())
        listed.update("\n".join(items.names).encode(errors="surrogateescape"))
        listed.update(items.labels.tobytes())
    listed.update("\n".join(record.model_dump_json() for record in source.classes).encode())
    return {
        "format": 2,
        "source": source.kind,
        "name": source.name,
        "images": listed.hexdigest(),
        **asdict(options),
        "encoder": f"Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}, quality {QUALITY}",
    }


@contextmanager
def claimed(out: Path, plan: dict[str, Any]) -> Iterator[None]:
    """Hold the folder for one build; leave it without partial files, and without a trace where nothing was done."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: this is a file; --out names a folder.")
    described = out / "build.json"
    if described.exists():
        before = read_json(described, "description of a build")
        if different := sorted(key for key in plan.keys() | before.keys() if plan.get(key) != before.get(key)):
            raise DataError(
                f"{out}: holds another build, with other {', '.join(different)}. Choose another --out, or remove "
                "that folder first."
            )
    elif out.exists() and any(path.name != ".build" for path in out.iterdir()):
        raise DataError(f"{out}: is not empty, and not a build of ltrsys. Choose another --out.")
    with explained(out):
        (out / ".build").mkdir(parents=True, exist_ok=True)
    with open(out / ".build" / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LtrsysError(f"{out}: another `ltrsys shards` is at work here. Wait for it or end it.") from None
        _remove_partial_files(out)
        try:
            if not described.exists():
                write_json(described, plan)
            yield
        finally:
            _remove_partial_files(out)


def _remove_partial_files(out: Path) -> None:
    for path in out.rglob(".*partial*"):
        path.unlink(missing_ok=True)


def finished_dataset(out: Path) -> Dataset | None:
    """Return the dataset if it is complete: `dataset.json` is there, and every shard has its size."""
    if not (out / "dataset.json").exists():
        return None
    dataset = Dataset.open(out)
    for name, split in dataset.record.splits.items():
        for shard in split.shards:
            path = out / name / "shards" / shard.name
            if not path.exists() or path.stat().st_size != shard.bytes:
                log.warning("%s: missing or not whole; building again.", path)
                (out / "dataset.json").unlink()
                return None
    shutil.rmtree(out / ".build", ignore_errors=True)
    return dataset
