"""`ltrsys shards` from end to end: a source is read, cut to a long tail where that is wanted, and built."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ltrsys.config.reading import load_run_config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import ClassRecord, SplitName
from ltrsys.data.reading.opening import open_dataset
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.data.shards.updating import keep_classes
from ltrsys.data.sources.long_tail import cut_to_long_tail
from ltrsys.data.sources.source import SOURCES, Source, SourceOptions
from ltrsys.errors import UsageError
from ltrsys.runs.folder import RunFolder

log = logging.getLogger("ltrsys")


@dataclass(frozen=True)
class LongTail:
    """How the training images are cut."""

    shape: str | None
    """`none`, `pareto`, `exponential` or a file of counts; None for what suits the source."""
    max_count: int | None
    min_count: int
    pareto_power: float


def split_files_and_shares(
    train: Path | None, val: str | None, test: str | None
) -> tuple[dict[SplitName, Path], dict[SplitName, float]]:
    """Tell files from shares: `--val 0.1` is a share, `--val val.txt` a file (as is `--val ./0.1`)."""
    files: dict[SplitName, Path] = {} if train is None else {"train": train}
    shares: dict[SplitName, float] = {}
    given: list[tuple[SplitName, str | None]] = [("val", val), ("test", test)]
    for name, value in given:
        if value is None:
            continue
        try:
            shares[name] = float(value)
        except ValueError:
            files[name] = Path(value)
    return files, shares


def build(
    kind: str,
    out: Path,
    source_options: SourceOptions,
    long_tail: LongTail,
    options: BuildOptions,
    *,
    name: str | None,
    classes_from: Path | None,
    update: bool,
    on_reject: Literal["refuse", "list"],
    workers: int | None,
) -> None:
    """Read a source, build its shards and say what they hold.

    Raises:
        UsageError: For options that do not fit the source.
        DataError: For a source or images that cannot be used, or a folder that holds something else.
    """
    source = SOURCES.get(kind).read(source_options)
    source = _cut(source, SOURCES.get(kind).balanced, long_tail, source_options.seed)
    if name is not None:
        source = replace(source, name=name)
    if classes_from is not None:
        source = keep_classes(source, classes_of(classes_from))
    workers = workers or len(os.sched_getaffinity(0))
    dataset = build_shards(source, out, options, workers=workers, on_reject=on_reject, update=update)
    images = ", ".join(f"{split} {record.samples}" for split, record in dataset.record.splits.items())
    classes = f"{dataset.num_classes} {'class' if dataset.num_classes == 1 else 'classes'}"
    print(f"{out}: {classes}; images: {images}. Look at it with `ltrsys inspect {out}`.")
    _warn_of_missing_splits(dataset)


def classes_of(folder: Path) -> list[ClassRecord]:
    """Return the classes of a run, or of a folder of shards.

    Raises:
        UsageError: Where `folder` is neither.
        DataError: Where the shards of the run are gone.
    """
    if (folder / "dataset.json").exists():  # a run keeps that of its shards too
        return Dataset.open(folder).record.classes
    if not RunFolder(folder).config_file.exists():
        raise UsageError(f"--classes-from {folder}: neither a run folder nor a folder of shards.")
    return open_dataset(load_run_config(RunFolder(folder)).data).record.classes


def _cut(source: Source, balanced: bool, long_tail: LongTail, seed: int) -> Source:
    shape = long_tail.shape or ("exponential" if balanced else "none")
    if shape == "none":
        return source
    return cut_to_long_tail(
        source,
        shape,
        max_count=long_tail.max_count,
        min_count=long_tail.min_count,
        pareto_power=long_tail.pareto_power,
        seed=seed,
    )


def _warn_of_missing_splits(dataset: Dataset) -> None:
    if dataset.has("test") or dataset.has("val"):
        return
    log.warning(
        "There is neither a val nor a test split: a model that is trained on these shards cannot be evaluated. The "
        "same command with --update --val 0.1 --test 0.1 makes both."
    )
