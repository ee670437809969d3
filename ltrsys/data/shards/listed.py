"""The images of a source that can be used, with all that is known of each, and what is told of the others."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import SPLITS
from ltrsys.data.shards.splitting import TRAIN
from ltrsys.data.sources.source import Source
from ltrsys.data.validation.staging import Staged, refusal
from ltrsys.errors import DataError
from ltrsys.files import json_text, replaced

log = logging.getLogger("ltrsys")


@dataclass(frozen=True)
class Listed:
    """Images of a source, in its order; arrays of shape [images]."""

    staged: Staged
    labels: NDArray[np.int64]
    splits: NDArray[np.int64]
    """Place in `SPLITS`."""
    groups: NDArray[np.object_]
    """What an image must not be parted from by a split that is made here, if there is such a thing."""
    details: dict[str, NDArray[np.object_]]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: NDArray[np.int64]) -> "Listed":
        """Return the images at `places`."""
        details = {column: values[places] for column, values in self.details.items()}
        return Listed(self.staged.take(places), self.labels[places], self.splits[places], self.groups[places], details)


def different_names(source: Source) -> list[str]:
    """Return the names of all images of a source, each once."""
    return list(dict.fromkeys(name for items in source.splits.values() for name in items.names))


def usable_images(source: Source, staged: Staged, groups: NDArray[np.object_]) -> Listed:
    """Return the images that passed the check.

    Args:
        source: Where they are from.
        staged: What became of `different_names`.
        groups: The group of each image of the source, in the order of its splits.
    """
    every = list(source.splits.values())
    columns = sorted({column for items in every for column in items.details})
    details = {
        column: np.concatenate([items.details.get(column, np.full(len(items), None, object)) for items in every])
        for column in columns
    }
    labels = np.concatenate([items.labels.astype(np.int64) for items in every])
    splits = np.repeat([SPLITS.index(name) for name in source.splits], [*map(len, every)])
    place_of = dict(zip(staged.items.tolist(), range(len(staged)), strict=True))
    places = np.array([place_of[name] for items in every for name in items.names], dtype=np.int64)
    usable = np.flatnonzero(staged.sizes[places] > 0)
    return Listed(
        staged.take(places[usable]),
        labels[usable],
        splits[usable],
        groups[usable],
        {column: values[usable] for column, values in details.items()},
    )


def write_rejected(path: Path, source: Source, staged: Staged, *, refuse: bool) -> None:
    """Write `path`, `rejected.jsonl`: a line an image that cannot be used, or no file where there is none.

    Raises:
        DataError: With `refuse`, where there is any; else where nothing is left.
    """
    if not staged.rejected:
        path.unlink(missing_ok=True)
        return
    split_of = {name: split for split, items in source.splits.items() for name in items.names}
    with replaced(path, "w") as file:
        for place, reason in sorted(staged.rejected.items()):
            item = staged.items[place]
            file.write(json_text({"split": split_of[item], "item": item, "reason": reason}) + "\n")
    if refuse:
        raise refusal(staged, path)
    if len(staged.rejected) == len(staged):
        raise DataError(f"{source.name}: no image is left; {path} says why.")
    number = len(staged.rejected)
    were = "image was" if number == 1 else "images were"
    log.warning("%d %s left out; %s says which and why.", number, were, path)


def warn_of_empty_classes(source: Source, listed: Listed) -> None:
    """Name classes without an image, and without one to train on.

    Raises:
        DataError: Where there is no training image at all.
    """
    num_classes = len(source.classes)
    everywhere = np.bincount(listed.labels, minlength=num_classes)
    train = np.bincount(listed.labels[listed.splits == TRAIN], minlength=num_classes)
    if not train.any():
        raise DataError(f"{source.name}: no training image is left.")
    if len(gaps := np.flatnonzero(everywhere == 0)):
        log.warning("No image at all of %s: the class ids stay as they are.", _some_classes(source, gaps))
    if len(untrained := np.flatnonzero((train == 0) & (everywhere > 0))):
        log.warning("No training image of %s: no classifier can learn them.", _some_classes(source, untrained))


def _some_classes(source: Source, labels: NDArray[np.int64], most: int = 5) -> str:
    named = ", ".join(f"{label} ({source.classes[label].name})" for label in labels[:most])
    return f"class {named}" + (f" and {len(labels) - most} more" if len(labels) > most else "")
