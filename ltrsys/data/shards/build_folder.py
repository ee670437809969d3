"""The folder of a build: what is built in it, by whom, and whether it is finished.

`OUT/build.json` says what is built, so that the same command continues and another one is refused; `OUT/.build`
holds what is not needed afterwards.
"""

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import PIL
from PIL import features

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import DatasetRecord, write_record
from ltrsys.data.shards.splitting import Shares
from ltrsys.data.sources.source import Source
from ltrsys.data.validation.images import QUALITY
from ltrsys.errors import DataError, LtrsysError
from ltrsys.files import explained, read_json, sync_folder, write_json

log = logging.getLogger("ltrsys")

MAX_SHARD_BYTES = 128 * 2**20

IMAGES_DEPEND_ON = ("format", "resize", "encoder")
"""What an image that was checked depends on; the rest decides only where it stands."""

REJECTED, DUPLICATES, ATTRIBUTION = "rejected.jsonl", "duplicates.jsonl", "attribution.csv"
"""What a build tells of its images, where there is something to tell."""

OnDuplicates = Literal["off", "report", "together", "drop"]


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
    val: float = 0.0
    """The share of the images that becomes val, of a source that has none."""
    test: float = 0.0
    """The same for test."""
    group_by: str | None = None
    """The column, or the regular expression over the path, whose images stand in one split."""
    duplicates: OnDuplicates = "off"
    """What becomes of images that are the same picture: they are not looked for, only reported, kept in one split where
    splits are made here, or left out of all splits but the last of train, val and test."""

    @property
    def shares(self) -> Shares:
        """What is split off from the training images."""
        return Shares(self.val, self.test)


def describe_build(source: Source, options: BuildOptions) -> dict[str, Any]:
    """Return what must be equal for two builds to make the same bytes."""
    listed = hashlib.sha256()
    for split, items in source.splits.items():
        listed.update(f"{split} {len(items)}\n".encode())
        listed.update("\n".join(items.names).encode(errors="surrogateescape"))
        listed.update(items.labels.tobytes())
    listed.update("\n".join(record.model_dump_json() for record in source.classes).encode())
    newer = ("val", "test", "group_by", "duplicates")  # builds of 0.2.0 have none of them
    usual = asdict(BuildOptions())
    return {
        "format": 2,
        "source": source.kind,
        "name": source.name,
        "images": listed.hexdigest(),
        **{name: value for name, value in asdict(options).items() if name not in newer or value != usual[name]},
        "encoder": f"Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}, quality {QUALITY}",
    }


def same_layout(plan: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether two builds would give the same images the same places."""
    return all(plan.get(key) == before.get(key) for key in ("seed", "bands_per_octave", "max_shard_bytes"))


@contextmanager
def claimed(out: Path, plan: dict[str, Any], *, update: bool = False, changeable: bool = False) -> Iterator[None]:
    """Hold the folder for one build; leave it without partial files, and without a trace where nothing was done.

    Args:
        out: The folder.
        plan: What `describe_build` says.
        update: Whether a finished build of other images may be brought up to date.
        changeable: Whether the images tell by themselves that they have changed.

    Raises:
        DataError: Where the folder holds something else.
        LtrsysError: Where another build is running there.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: this is a file; --out names a folder.")
    described = out / "build.json"
    if described.exists():
        _check_same(out, plan, read_json(described, "description of a build"), update=update, changeable=changeable)
    elif out.exists() and any(path.name != ".build" for path in out.iterdir()):
        raise DataError(f"{out}: is not empty, and not a build of ltrsys. Choose another --out.")
    elif update:
        raise DataError(f"{out}: there is nothing to update here. Leave out --update to build it.")
    with explained(out):
        (out / ".build").mkdir(parents=True, exist_ok=True)
    with open(out / ".build" / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LtrsysError(f"{out}: another `ltrsys shards` is at work here. Wait for it or end it.") from None
        _remove_partial_files(out)
        try:
            _finish_release(out)
            if not (out / "dataset.json").exists():
                write_json(described, plan)
            yield
        finally:
            _remove_partial_files(out)
            if [path.name for path in (out / ".build").glob("*")] == ["lock"]:
                shutil.rmtree(out / ".build")


def _check_same(out: Path, plan: dict[str, Any], before: dict[str, Any], *, update: bool, changeable: bool) -> None:
    given_up = [f"--{name} {before[name]:g}" for name in ("val", "test") if before.get(name) and not plan.get(name)]
    if update and given_up:
        raise DataError(
            f"{out}: was built with {' and '.join(given_up)}, and without it all of these images would be trained on. "
            "Give it again, or build in another folder to have no such split."
        )
    different = sorted(key for key in plan.keys() | before.keys() if plan.get(key) != before.get(key))
    fixed = [key for key in different if key in IMAGES_DEPEND_ON]
    if not different or (changeable and not fixed and (update or not (out / "dataset.json").exists())):
        return
    if changeable and not fixed:
        raise DataError(
            f"{out}: holds a finished build, with other {', '.join(different)}. Bring it up to date with --update, or "
            "choose another --out."
        )
    told = ", ".join(fixed if changeable else different)
    raise DataError(
        f"{out}: holds another build, with other {told}. Choose another --out, or remove that folder first."
    )


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
    return dataset


def ready_folder(out: Path) -> Path:
    """Return where the files wait that take the place of those of an earlier build; its `dataset.json` comes last."""
    return out / ".build" / "ready"


def release(out: Path, record: DatasetRecord, plan: dict[str, Any]) -> None:
    """Let what is ready take the place of an earlier build, if there is one; a kill in between is made good later."""
    write_json(ready_folder(out) / "build.json", plan)
    write_record(ready_folder(out), record)
    _finish_release(out)


def _finish_release(out: Path) -> None:
    ready = ready_folder(out)
    if not (ready / "dataset.json").exists():
        return
    record = Dataset.open(ready).record
    with explained(out):
        (out / "dataset.json").unlink(missing_ok=True)  # nobody opens a mixture of both
        for name in (DUPLICATES, ATTRIBUTION):
            if not (ready / name).exists():
                (out / name).unlink(missing_ok=True)
        last = ready / "dataset.json"
        for path in [*(path for path in ready.rglob("*") if path.is_file() and path != last), last]:
            place = out / path.relative_to(ready)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
            sync_folder(place.parent)
    for folder in out.glob("*/shards"):
        split = record.splits.get(folder.parent.name)  # type: ignore[call-overload]  # None for a split that is gone
        needed = {shard.name for shard in split.shards} if split else set()
        for path in folder.glob("*.tar"):
            if path.name not in needed:
                path.unlink()
    shutil.rmtree(out / ".build")
