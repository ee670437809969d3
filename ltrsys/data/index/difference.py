"""What differs between two datasets, said for people: classes, images and how they were built."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ltrsys.data.index.records import SPLITS, ClassRecord, DatasetRecord

SHOWN = 3
"""Classes that are named of each kind of change."""


@dataclass(frozen=True)
class Difference:
    """What differs, in phrases."""

    classes: list[str]
    """Whatever makes class i another class than before: a network's output i no longer means it."""
    rest: list[str]
    """Everything else."""

    def __str__(self) -> str:
        """Return all of it as one clause."""
        return "; ".join([*self.classes, *self.rest])


def difference(before: DatasetRecord, after: DatasetRecord) -> Difference:
    """Say how `after` differs from `before`, which must not be equal."""
    classes = difference_of_classes(before.classes, after.classes)
    now_called = _now_called(before.classes, after.classes)
    places = {name: place for place, name in enumerate(_names(after.classes))}
    rest = [
        *classes.rest,
        *_images(before, after),
        *_counts(before, after, now_called, places),
        *_settings(before, after),
    ]
    if not (classes.classes or rest):
        rest = ["as many images of each class, but other images, or in another order"]
    return Difference(classes.classes, rest)


def difference_of_classes(before: Sequence[ClassRecord], after: Sequence[ClassRecord]) -> Difference:
    """Say how classes differ, of which some may be called otherwise now; nothing where they do not."""
    names_before, names_after = _names(before), _names(after)
    now_called = _now_called(before, after)
    places = {name: place for place, name in enumerate(names_after)}
    added = [name for name in names_after if name not in set(now_called)]
    removed = [name for name in now_called if name not in places]
    moved = [
        f"{name} from {place} to {places[name]}"
        for place, name in enumerate(now_called)
        if name in places and places[name] != place
    ]
    renamed = [f"{old} to {new}" for old, new in zip(names_before, now_called, strict=True) if old != new]
    return Difference(
        [
            *_told(added, lambda count: f"{_classes(count)} added"),
            *_told(removed, lambda count: f"{_classes(count)} removed"),
            *_told(moved, lambda count: f"{_classes(count)} numbered anew"),
        ],
        _told(renamed, lambda count: f"{_classes(count)} renamed"),
    )


def _now_called(before: Sequence[ClassRecord], after: Sequence[ClassRecord]) -> list[str]:
    """Return what the classes of before are called now: of those that keep number and source id, a name may change."""
    names_before, names_after = _names(before), _names(after)
    before_too, after_too = set(names_before), set(names_after)
    renamed = {
        old: new
        for old, new, one, other in zip(names_before, names_after, before, after, strict=False)
        if old not in after_too and new not in before_too and one.source_id == other.source_id
    }
    return [renamed.get(name, name) for name in names_before]


def _names(classes: Iterable[ClassRecord]) -> list[str]:
    """Return what tells the classes apart: their names, with the source's id where two have one name."""
    classes = list(classes)
    times = Counter(entry.name for entry in classes)
    return [entry.name if times[entry.name] == 1 else f"{entry.name} ({entry.source_id})" for entry in classes]


def _images(before: DatasetRecord, after: DatasetRecord) -> Iterable[str]:
    for split in SPLITS:
        then, now = (record.splits[split].samples if split in record.splits else 0 for record in (before, after))
        if then != now:
            yield f"{split} had {then:,} images and has {now:,}"


def _counts(
    before: DatasetRecord, after: DatasetRecord, now_called: list[str], places: dict[str, int]
) -> Iterable[str]:
    if "train" not in before.splits or "train" not in after.splits:
        return []
    then, now = before.splits["train"].class_counts, after.splits["train"].class_counts
    changed = [
        f"{name} {then[place]:,} to {now[places[name]]:,}"
        for place, name in enumerate(now_called)
        if name in places and then[place] != now[places[name]]
    ]
    return _told(changed, lambda count: f"{_classes(count)} with another number of training images")


def _settings(before: DatasetRecord, after: DatasetRecord) -> Iterable[str]:
    for setting in ("name", "source", "seed", "resize", "bands_per_octave"):
        then, now = getattr(before, setting), getattr(after, setting)
        if then != now:
            yield f"{setting} was {then} and is {now}"


def _told(entries: list[str], what: Callable[[int], str]) -> list[str]:
    if not entries:
        return []
    more = f" and {len(entries) - SHOWN:,} more" if len(entries) > SHOWN else ""
    return [f"{what(len(entries))} ({', '.join(entries[:SHOWN])}{more})"]


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count:,} classes"
