"""Cutting a dataset to a long tail: how many training images each class keeps, and which."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import ClassRecord
from ltrsys.data.sources.source import Items, Source
from ltrsys.errors import DataError, UsageError
from ltrsys.files import read_json
from ltrsys.random import Stream, permutation

Curve = Literal["pareto", "exponential"]


def cut_to_long_tail(
    source: Source,
    shape: str,
    *,
    seed: int,
    max_count: int | None = None,
    min_count: int = 5,
    pareto_power: float = 1.0,
) -> Source:
    """Return the source with fewer training images; the other splits stay as they are.

    Args:
        source: The source to cut.
        shape: `pareto`, `exponential`, or the path of a JSON file of counts.
        seed: Decides which class comes where on the curve and which images stay.
        max_count: Images of the most frequent class; as many as it has if not given.
        min_count: Images of the rarest class.
        pareto_power: The power of the Pareto distribution.

    Raises:
        UsageError: Where the curve would rise.
        DataError: For a file of counts that does not fit the source.
    """
    train = source.splits["train"]
    available = np.bincount(train.labels, minlength=len(source.classes))
    if shape in get_args(Curve):
        max_count = int(available.max()) if max_count is None else max_count
        if min_count > max_count:
            raise UsageError(f"--min-count {min_count} is above the most frequent class's {max_count} images.")
        ranked = curve_counts(
            cast(Curve, shape),
            len(source.classes),
            max_count=max_count,
            min_count=min_count,
            pareto_power=pareto_power,
        )
        counts = assign_counts(ranked, available, seed=seed)
    elif shape.endswith(".json"):
        counts = read_counts(Path(shape), source.classes, available)
    else:
        raise UsageError(f"--long-tail {shape}: expected none, pareto, exponential or the name of a .json file.")
    return replace(source, splits={**source.splits, "train": cut(train, counts, seed=seed)})


def curve_counts(
    curve: Curve, num_classes: int, *, max_count: int, min_count: int, pareto_power: float = 1.0
) -> NDArray[np.int64]:
    """Return the number of images of the most frequent class, the second, ..., int64 [num_classes].

    `exponential` falls by the same factor from each class to the next. `pareto` has the counts of a Pareto
    distribution (density proportional to n**-(pareto_power + 1)) truncated to [min_count, max_count], read off
    at equal steps of probability; `exponential` is its limit for a power of 0.
    """
    steps = np.linspace(0.0, 1.0, num_classes) if num_classes > 1 else np.zeros(1)
    if curve == "exponential":
        counts = max_count * (min_count / max_count) ** steps
    else:
        low, high = float(max_count) ** -pareto_power, float(min_count) ** -pareto_power
        counts = (low + steps * (high - low)) ** (-1 / pareto_power)
    # Rounding first to 9 digits keeps a power of the last bit's difference between C libraries from moving a count.
    return np.rint(np.round(counts, 9)).astype(np.int64)


def assign_counts(ranked: NDArray[np.int64], available: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Give each class a place on the curve: the more images it has, the further ahead; ties at random.

    Returns int64 [num_classes], no more than `available` for any class.
    """
    shuffled = permutation(len(available), seed=seed, stream=Stream.LONG_TAIL)
    by_rank = shuffled[np.argsort(-available[shuffled], kind="stable")]
    counts = np.empty_like(available)
    counts[by_rank] = ranked
    return np.minimum(counts, available)


def read_counts(path: Path, classes: list[ClassRecord], available: NDArray[np.int64]) -> NDArray[np.int64]:
    """Read the counts of a JSON file: a list with one a class id, or an object with one a class name.

    Raises:
        DataError: Where it does not name each class once, or asks for more images than there are.
    """
    content = read_json(path, "file of counts")
    names = [record.name for record in classes]
    if isinstance(content, dict):
        if missing := [name for name in names if name not in content]:
            raise DataError(f"{path}: there is no count for class `{missing[0]}` ({len(missing)} missing).")
        if unknown := content.keys() - set(names):
            raise DataError(f"{path}: `{min(unknown)}` is not a class of this dataset.")
        content = [content[name] for name in names]
    if not isinstance(content, list) or len(content) != len(classes):
        raise DataError(f"{path}: expected a list of {len(classes)} counts, or an object from class names to counts.")
    for label, count in enumerate(content):
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise DataError(f"{path}: class {label} ({names[label]}): {count!r} is not a whole number of images.")
        if count > available[label]:
            raise DataError(
                f"{path}: class {label} ({names[label]}): {count} images are asked for, "
                f"but the source has {available[label]}."
            )
    return np.array(content, dtype=np.int64)


def cut(items: Items, counts: NDArray[np.int64], *, seed: int) -> Items:
    """Keep `counts[j]` images of class j, chosen at random, in the order they had."""
    order = permutation(len(items), seed=seed, stream=Stream.LONG_TAIL, major=2)
    order = order[np.argsort(items.labels[order], kind="stable")]
    labels = items.labels[order]
    starts = np.searchsorted(labels, np.arange(len(counts)))
    rank_in_class = np.arange(len(labels)) - starts[labels]
    return items.take(np.sort(order[rank_in_class < counts[labels]]))
