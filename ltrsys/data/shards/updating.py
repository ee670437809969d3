"""What an update of a build keeps: the ids of the classes, and the shards of the strata that stay as they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.index.records import SPLITS, ClassRecord, ShardRecord, StratumRecord, first_keys
from ltrsys.data.shards.layout import even_places
from ltrsys.data.shards.manifest import splits_of
from ltrsys.data.sources.source import Items, Source
from ltrsys.data.validation.staging import Staged

GROWTH = 1 / 8
"""Bytes that are appended to a stratum, at most, over those that stay. Where every update brings a share s of new
images, an update writes g / 2 of all bytes on average, for what was appended since, and s / g, for writing all anew
once in g / s updates. The sum is least at g = sqrt(2 s), which is near 1/8 for s = 1 %."""


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


@dataclass(frozen=True)
class KeptStratum:
    """A stratum of an earlier build whose shards stay."""

    record: StratumRecord
    """Where it stood."""
    shards: list[ShardRecord]
    images: NDArray[np.int64]
    """The images in these shards, by their places among those of the new split, in the order of the samples."""


def keep_strata(
    split: Split, staged: Staged, labels: NDArray[np.int64], bands: NDArray[np.int64], most: Callable[[int], float]
) -> tuple[NDArray[np.int64], list[KeptStratum]]:
    """Find the strata that have lost no image and have not grown much since their shards were written.

    What has come to such a stratum since is appended to it. It is written anew, and its classes go where their counts
    belong, where more than `GROWTH` of its bytes would be appended, or a class has more images than `most` says.

    Args:
        split: The split of the earlier build.
        staged: The images of the new split.
        labels: Their classes.
        bands: The band where its count belongs, of each class, [num_classes].
        most: Returns the number of images that a class of a band may have.

    Returns:
        The band of each class, and the strata, by band.
    """
    appended = np.array([shard.appended for shard in split.record.shards], dtype=bool)[split.shard]
    image_of_sample = _images_of_samples(split, staged, labels)
    counts = np.bincount(labels, minlength=len(bands))
    bytes_of_class = np.bincount(labels, weights=staged.sizes, minlength=len(bands))
    found = {}
    for stratum in split.record.strata:
        own = stratum.first + np.flatnonzero(~appended[stratum.first : stratum.first + stratum.samples])
        classes = np.unique(split.label[own])
        if (image_of_sample[own] >= 0).all() and counts[classes].max() <= most(stratum.band):
            found[stratum.band] = stratum, own, classes
    while True:
        new_bands = bands.copy()
        for band, (_, _, classes) in found.items():
            new_bands[classes] = band
        outgrown = [
            band
            for band, (_, own, _) in found.items()
            if bytes_of_class[new_bands == band].sum() > (1 + GROWTH) * split.size[own].sum(dtype=np.int64)
        ]
        if not outgrown:
            break
        for band in outgrown:  # its classes may go to another that is found, which grows by them
            del found[band]
    kept = []
    for band, (stratum, own, _) in found.items():
        every = np.arange(stratum.first, stratum.first + stratum.samples)
        as_it_was = (
            (image_of_sample[every] >= 0).all()
            and (new_bands[split.label[every]] == band).all()
            and counts[new_bands == band].sum() == stratum.samples
        )
        samples = every if as_it_was else own
        kept.append(KeptStratum(stratum, _shards_of(split, samples), image_of_sample[samples]))
    return new_bands, kept


def most_images(band: int, bands_per_octave: int) -> float:
    """Return how many images a class of a band may have before its stratum is written anew, not rounded.

    The stratum may grow by `GROWTH` before that happens anyway, and so may a class that was the largest of its band.
    """
    return float(2 ** ((band + 1) / bands_per_octave) * (1 + GROWTH))


def places_with_kept(
    labels: NDArray[np.int64], kept: Sequence[KeptStratum], num_classes: int, *, seed: int
) -> NDArray[np.float64]:
    """Return the place of each image in its stratum, [n], as `even_places` does for a stratum that is new.

    Samples that stay are as far along the stratum as they were, and what is appended is spread over it by itself. So a
    stretch of the stratum holds each class in proportion, to within two images where the old samples are in exact
    proportion and three in general, and is one stretch of the old shards and one of the appended ones.
    """
    places = np.full(len(labels), -1.0)
    for stratum in kept:
        places[stratum.images] = (np.arange(len(stratum.images)) + 0.5) / len(stratum.images)
    new = np.flatnonzero(places < 0)
    places[new] = even_places(labels[new], num_classes, seed=seed, minor=1 if kept else 0)
    return places


def _images_of_samples(split: Split, staged: Staged, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place in `staged` of each sample of a split, -1 where it is gone or has another label, [samples]."""
    from_split = np.array([path.parent.parent == split.folder for path in staged.paths], dtype=bool)[staged.files]
    images = np.flatnonzero(from_split & (staged.samples >= 0))
    images = images[split.label[staged.samples[images]] == labels[images]]
    image_of_sample = np.full(len(split), -1, np.int64)
    image_of_sample[staged.samples[images]] = images
    return image_of_sample


def _shards_of(split: Split, samples: NDArray[np.int64]) -> list[ShardRecord]:
    keys = first_keys(split.record.shards)
    return [
        split.record.shards[shard].model_copy(update={"first_key": keys[shard]})
        for shard in np.unique(split.shard[samples])
    ]


def changes(
    before: Dataset, earlier: Staged, staged: Staged, labels: NDArray[np.int64], splits: NDArray[np.int64]
) -> str:
    """Say in a line what an update changes.

    Args:
        before: The earlier build.
        earlier: Its images, in the order of its samples.
        staged: The images now.
        labels: Their classes, [images].
        splits: Their splits, [images].
    """
    old_labels = np.concatenate([before.split(name).label for name in SPLITS if before.has(name)])
    then = dict(zip(earlier.items.tolist(), range(len(earlier)), strict=True))
    found = np.array([then.get(item, -1) for item in staged.items.tolist()], dtype=np.int64)
    old, now = found[found >= 0], np.flatnonzero(found >= 0)
    counts = {
        "added": len(staged) - len(now),
        "removed": len(then) - len(np.unique(old)),
        "replaced": np.count_nonzero(staged.pixels[now] != earlier.pixels[old]),
        "relabelled": np.count_nonzero(labels[now] != old_labels[old]),
        "moved to another split": np.count_nonzero(splits[now] != splits_of(earlier)[old]),
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{len(staged)} images: {told or 'nothing has changed'}."
