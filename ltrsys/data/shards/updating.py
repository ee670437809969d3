"""What an update of a build keeps: the ids of the classes, and the shards of the strata that stay as they are."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.index.records import SPLITS, ClassRecord, ShardRecord, StratumRecord, first_keys
from ltrsys.data.shards.manifest import splits_of
from ltrsys.data.sources.source import Items, Source
from ltrsys.data.validation.staging import Staged


def keep_classes(source: Source, classes: Sequence[ClassRecord]) -> Source:
    """Return the source with the ids of `classes`; classes that are new follow, and those that are gone are empty.

    Classes are the same if the source calls them the same (`source_id`), or, where it has no such names, by name.
    """
    places = {_identity(record): label for label, record in enumerate(classes)}
    kept = list(classes)
    new_label = np.empty(len(source.classes), dtype=np.int32)
    for label, record in enumerate(source.classes):
        place = places.get(_identity(record))
        if place is None:
            new_label[label] = len(kept)
            kept.append(record)
        else:
            new_label[label] = place
            kept[place] = record
    splits = {name: Items(items.names, new_label[items.labels], items.details) for name, items in source.splits.items()}
    return replace(source, classes=kept, splits=splits)


def _identity(record: ClassRecord) -> str:
    return record.name if record.source_id is None else record.source_id


def keep_strata(
    order: NDArray[np.int64],
    strata: list[StratumRecord],
    staged: Staged,
    labels: NDArray[np.int64],
    split: Split | None,
) -> tuple[NDArray[np.int64], list[list[ShardRecord]]]:
    """Find the strata that a split of an earlier build holds already.

    Args:
        order: Places in `staged` and `labels`, in the order of the new split.
        strata: Ranges of that order.
        staged: All images.
        labels: Their classes.
        split: The split of the earlier build.

    Returns:
        The order, in which the samples of such strata stand as they did, and the shards of each stratum, none for one
        that is to be written.
    """
    kept: list[list[ShardRecord]] = [[] for _ in strata]
    if split is None:
        return order, kept
    from_split = np.array([path.parent.parent == split.folder for path in staged.paths], dtype=bool)[staged.files]
    firsts = np.cumsum([0, *(shard.samples for shard in split.record.shards)])[:-1]
    keys = first_keys(split.record.shards)
    before = {stratum.first: stratum for stratum in split.record.strata}
    order = order.copy()
    for number, stratum in enumerate(strata):
        own = order[stratum.first : stratum.first + stratum.samples]
        samples = staged.samples[own]
        if not from_split[own].all():
            continue
        by_sample = np.argsort(samples)
        first = int(samples[by_sample[0]])
        old = before.get(first)
        if (
            old is not None
            and (old.band, old.samples) == (stratum.band, stratum.samples)
            and np.array_equal(samples[by_sample], np.arange(first, first + old.samples))
            and np.array_equal(split.label[samples], labels[own])
        ):
            order[stratum.first : stratum.first + stratum.samples] = own[by_sample]
            inside = np.flatnonzero((firsts >= first) & (firsts < first + old.samples))
            kept[number] = [
                split.record.shards[shard].model_copy(update={"first_key": keys[shard]}) for shard in inside
            ]
    return order, kept


def changes(
    before: Dataset, earlier: Staged, staged: Staged, labels: NDArray[np.int64], splits: NDArray[np.int64]
) -> str:
    """Say in a line what an update changes."""
    old_labels = np.concatenate([before.split(name).label for name in SPLITS if before.has(name)])
    then = dict(
        zip(earlier.items, zip(old_labels.tolist(), splits_of(earlier), earlier.pixels, strict=True), strict=True)
    )
    counts = dict.fromkeys(("added", "removed", "replaced", "relabelled", "moved to another split"), 0)
    seen = 0
    for item, label, split, pixels in zip(staged.items, labels.tolist(), splits.tolist(), staged.pixels, strict=True):
        if item not in then:
            counts["added"] += 1
            continue
        seen += 1
        old_label, old_split, old_pixels = then[item]
        counts["replaced"] += bytes(pixels) != bytes(old_pixels)
        counts["relabelled"] += label != old_label
        counts["moved to another split"] += split != old_split
    counts["removed"] = len(then) - seen
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{len(staged)} images: {told or 'nothing has changed'}."
