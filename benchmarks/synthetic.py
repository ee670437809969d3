"""A split that exists in memory alone: an index with long-tailed class counts, without images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.dataset import Split
from ltrsys.data.index.records import SplitRecord, StratumRecord


def synthetic_split(class_counts: NDArray[np.int64], *, bands_per_octave: int = 4, seed: int = 0) -> Split:
    """Return a stratified training split with these class counts and images of 10 to 50 kB."""
    random = np.random.default_rng(seed)
    bands = np.array([int(count) ** bands_per_octave for count in class_counts], dtype=object)
    bands = np.array([int(power).bit_length() - 1 for power in bands])
    strata, labels, first = [], [], 0
    for band in np.unique(bands[class_counts > 0]):
        classes = np.flatnonzero((bands == band) & (class_counts > 0))
        counts = class_counts[classes]
        tape = np.repeat(classes, counts).astype(np.int32)
        image = np.arange(len(tape)) - np.repeat(np.cumsum(counts) - counts, counts)
        place = (image + np.repeat(random.random(len(classes)), counts)) / np.repeat(counts, counts)
        labels.append(tape[np.argsort(place)])
        strata.append(StratumRecord(band=int(band), first=first, samples=len(tape)))
        first += len(tape)
    label = np.concatenate(labels)
    size = random.integers(10_000, 50_000, len(label), dtype=np.uint32)
    nothing = np.zeros(len(label), dtype=np.uint16)
    record = SplitRecord(samples=len(label), shards=[], strata=strata, class_counts=class_counts.tolist(), columns={})
    return Split(
        name="train",
        folder=Path("synthetic"),
        record=record,
        label=label,
        shard=nothing.astype(np.uint32),
        offset=np.zeros(len(label), dtype=np.uint64),
        size=size,
        width=nothing,
        height=nothing,
        checksum=nothing.astype(np.uint32),
    )
