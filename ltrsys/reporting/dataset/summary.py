"""The figures of a dataset as plain values: classes, splits, strata, image sizes, and what building it has noted."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.index.records import SPLITS, SplitName
from ltrsys.data.shards.build_folder import DUPLICATES, REJECTED
from ltrsys.data.shards.manifest import manifest_path
from ltrsys.errors import DataError
from ltrsys.files import read_json
from ltrsys.metrics.accuracy import SHOTS, shot_of_class
from ltrsys.metrics.config import ShotsConfig

PERCENTILES = {"least": 0, "p5": 5, "median": 50, "p95": 95, "most": 100}


def summarize(dataset: Dataset, shots: ShotsConfig, *, smallest: int = 10) -> dict[str, Any]:
    """Return the figures of a dataset as plain values.

    What the build has not noted is left out: `formats` of a split in older shards, `duplicates` where they were not
    looked for, and of shards behind a URL both and `rejected`.

    Args:
        dataset: Any.
        shots: Where the groups of classes begin.
        smallest: How many classes with the fewest training images are named.

    Raises:
        DataError: Where a file beside the shards is damaged.
    """
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
        "smallest_classes": [
            {"id": int(place), "name": record.classes[place].name, "images": int(counts[place])}
            for place in np.argsort(counts, kind="stable")[:smallest]
        ],
        "splits": {name: _summarize_split(dataset, name) for name in SPLITS if dataset.has(name)},
        **_noted_while_building(dataset),
    }


def _summarize_split(dataset: Dataset, name: SplitName) -> dict[str, Any]:
    split = dataset.split(name)
    record = split.record
    counts = np.array(record.class_counts, dtype=np.int64)
    present = counts[counts > 0]
    formats = _formats(split)
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
        "pixels": {
            "width": _percentiles(split.width),
            "height": _percentiles(split.height),
            "short_side": _percentiles(np.minimum(split.width, split.height)),
        },
        **({} if formats is None else {"formats": formats}),
        "strata": _summarize_strata(split) if name == "train" else [],
    }


def _percentiles(pixels: NDArray[np.uint16]) -> dict[str, int]:
    values = np.percentile(pixels, list(PERCENTILES.values()), method="nearest")
    return {name: int(value) for name, value in zip(PERCENTILES, values, strict=True)}


def _formats(split: Split) -> dict[str, int] | None:
    """Return how many files had which format, most frequent first; None where the build did not note it."""
    path = manifest_path(split.folder)
    if not path.exists():
        return None
    import pyarrow
    from pyarrow import parquet

    try:
        column = parquet.read_table(path, columns=["format"]).column("format")
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: not a list of the images of a split ({reason}). Remove it, or copy it again."
        ) from None
    found = Counter({str(entry["values"]): int(entry["counts"]) for entry in column.value_counts().to_pylist()})
    return dict(found.most_common())


def _summarize_strata(split: Split) -> list[dict[str, Any]]:
    train = split.record
    firsts = np.cumsum([shard.samples for shard in train.shards]) - [shard.samples for shard in train.shards]
    strata = []
    for stratum in train.strata:
        # not by their counts: a class that has grown in an update may stay in its stratum
        own = np.bincount(split.label[stratum.first : stratum.first + stratum.samples])
        own = own[own > 0]
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


def _noted_while_building(dataset: Dataset) -> dict[str, Any]:
    """Return what the build has noted beside the shards: images left out, and duplicates."""
    if dataset.origin is not None:
        return {}
    reasons = Counter(str(line.get("reason")) for line in _lines(dataset.folder / REJECTED))
    noted: dict[str, Any] = {"rejected": {"images": reasons.total(), "reasons": dict(reasons.most_common())}}
    path, build = dataset.folder / DUPLICATES, dataset.folder / "build.json"
    looked_for = build.exists() and read_json(build, "build").get("duplicates", "off") != "off"
    if looked_for or path.exists():
        noted["duplicates"] = _summarize_duplicates(path)
    return noted


def _summarize_duplicates(path: Path) -> dict[str, int]:
    clusters = list(_lines(path))
    images = [image for cluster in clusters for image in cluster.get("images", [])]
    return {
        "clusters": len(clusters),
        "exact": sum(cluster.get("kind") == "exact" for cluster in clusters),
        "near": sum(cluster.get("kind") == "near" for cluster in clusters),
        "images": len(images),
        "dropped": sum(bool(image.get("dropped")) for image in images),
    }


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines; none where there is no such file."""
    if not path.exists():
        return
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise DataError(f"{path}:{number}: not a JSON object. Remove this file, or copy it again.")
            yield value
