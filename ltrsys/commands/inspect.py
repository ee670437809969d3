"""`ltrsys inspect` from end to end: the figures of a dataset, its long tail as a plot, the check of its bytes."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from ltrsys.data.config import DataConfig
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SPLITS, SplitName
from ltrsys.data.reading.opening import open_dataset
from ltrsys.data.reading.verify import verify as verify_dataset
from ltrsys.data.shards.layout import class_bands
from ltrsys.errors import DataError, LtrsysError, UsageError
from ltrsys.metrics.accuracy import SHOTS, shot_of_class
from ltrsys.metrics.config import ShotsConfig

log = logging.getLogger("ltrsys")


def inspect_dataset(
    shards: str,
    *,
    verify: bool,
    plot: Path | None,
    as_json: bool,
    many: int,
    few: int,
    workers: int | None,
    cache: Path | None,
) -> None:
    """Print the figures of a dataset; verify its bytes first, if asked to; draw its long tail where a file can go.

    Raises:
        UsageError: Where the groups overlap, or `shards` is no folder's name or URL.
        DataError: Where there is no dataset, or it is not whole.
    """
    if few > many:
        raise UsageError(f"--few {few} is above --many {many}.")
    shots = ShotsConfig(many=many, few=few)
    try:
        dataset = open_dataset(DataConfig(shards=shards, cache=cache))
    except ValidationError as error:
        raise UsageError(error.errors()[0]["msg"].removeprefix("Value error, ") + ".") from None
    if verify:
        _verify(dataset, workers or len(os.sched_getaffinity(0)))
    plot = _draw(dataset, shots, plot)
    summary = summarize(dataset, shots) | {"verified": verify, "plot": None if plot is None else str(plot)}
    if as_json:
        print(json.dumps(summary, indent=1, ensure_ascii=False))
        return
    _print(summary, Console())
    if verify:
        print("Verified: every checksum, offset, label and image size fits the index.")
    if plot:
        print(f"The long tail is drawn in {plot}.")


def summarize(dataset: Dataset, shots: ShotsConfig) -> dict[str, Any]:
    """Return the figures of a dataset as plain values."""
    record = dataset.record
    train = record.splits.get("train")
    counts = np.array(train.class_counts if train else [0] * dataset.num_classes, dtype=np.int64)
    groups = shot_of_class(counts, shots)
    return {
        "folder": dataset.place,
        "name": record.name,
        "source": record.source,
        "seed": record.seed,
        "resize": record.resize,
        "num_classes": dataset.num_classes,
        "supercategories": len({entry.supercategory for entry in record.classes if entry.supercategory}),
        "classes": {shot: int((groups == shot).sum()) for shot in SHOTS},
        "classes_without_training_images": int((counts == 0).sum()),
        "splits": {name: _summarize_split(dataset, name) for name in SPLITS if dataset.has(name)},
    }


def _summarize_split(dataset: Dataset, name: SplitName) -> dict[str, Any]:
    record = dataset.record.splits[name]
    counts = np.array(record.class_counts, dtype=np.int64)
    present = counts[counts > 0]
    return {
        "images": record.samples,
        "classes": len(present),
        "images_per_class": {
            "least": int(present.min()),
            "median": float(np.median(present)),
            "most": int(present.max()),
        },
        "shards": len(record.shards),
        "bytes": sum(shard.bytes for shard in record.shards),
        "strata": _summarize_strata(dataset) if name == "train" else [],
    }


def _summarize_strata(dataset: Dataset) -> list[dict[str, Any]]:
    train = dataset.record.splits["train"]
    counts = np.array(train.class_counts, dtype=np.int64)
    bands = class_bands(counts, dataset.record.bands_per_octave)
    firsts = np.cumsum([shard.samples for shard in train.shards]) - [shard.samples for shard in train.shards]
    strata = []
    for stratum in train.strata:
        own = counts[bands == stratum.band]
        inside = (firsts >= stratum.first) & (firsts < stratum.first + stratum.samples)
        strata.append(
            {
                "band": stratum.band,
                "classes": len(own),
                "images": stratum.samples,
                "images_per_class": {"least": int(own.min()), "most": int(own.max())},
                "shards": int(inside.sum()),
            }
        )
    return strata


def _draw(dataset: Dataset, shots: ShotsConfig, plot: Path | None) -> Path | None:
    """Draw the long tail; return where, or None where nobody named a place and the shards' folder takes no file."""
    if plot is None and dataset.origin is not None:
        return None
    from ltrsys.reporting.long_tail import draw_long_tail  # matplotlib takes a second to import

    path = plot or dataset.folder / "long_tail.png"
    try:
        draw_long_tail(dataset.split("train").class_counts, path, name=dataset.record.name, shots=shots)
    except LtrsysError as error:
        if plot is not None:
            raise
        log.warning("%s The long tail is not drawn; --plot names another place.", error)
        return None
    return path


def _verify(dataset: Dataset, workers: int) -> None:
    problems = list(verify_dataset(dataset, workers=workers))
    if problems:
        others = f" ({len(problems) - 1} more shards or splits have problems too.)" if len(problems) > 1 else ""
        raise DataError(problems[0] + others)


def _print(summary: dict[str, Any], console: Console) -> None:
    groups = ", ".join(f"{count} {shot}" for shot, count in summary["classes"].items())
    without = summary["classes_without_training_images"]
    console.print(
        f"{summary['name']}: {summary['num_classes']} classes ({groups}-shot"
        + (f"; {without} without a training image" if without else "")
        + f"), from {summary['source']}, seed {summary['seed']}"
        + (f", short side at most {summary['resize']}" if summary["resize"] else ""),
        highlight=False,
    )
    splits = Table(*(("split", "images", "classes", "images a class", "shards", "MB")))
    for name, split in summary["splits"].items():
        spread = split["images_per_class"]
        between = f"{spread['least']} to {spread['most']}, median {spread['median']:g}"
        splits.add_row(
            name,
            f"{split['images']:,}",
            f"{split['classes']:,}",
            between,
            f"{split['shards']:,}",
            f"{split['bytes'] / 1e6:,.1f}",
        )
    console.print(splits)
    strata = Table("stratum", "classes", "images a class", "images", "shards", title="strata of train")
    for stratum in summary["splits"].get("train", {}).get("strata", []):
        spread = stratum["images_per_class"]
        strata.add_row(
            str(stratum["band"]),
            f"{stratum['classes']:,}",
            f"{spread['least']} to {spread['most']}",
            f"{stratum['images']:,}",
            f"{stratum['shards']:,}",
        )
    console.print(strata)
