"""Where each sample stands: strata of classes of similar frequency, evenly mixed inside.

A stratum is a band of class frequency. Within it, image i of the n_j images of class j stands at
(i + u_j) / n_j with u_j random, so that every stretch of a shard holds each class in proportion, to within one
image: a sampler that needs a tenth of a stratum reads a tenth of its bytes, forward.
"""

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import StratumRecord
from ltrsys.random import Stream, permutation, uniforms


def band(count: int, bands_per_octave: int) -> int:
    """Return floor(bands_per_octave * log2(count)), exactly: 2**band <= count**bands_per_octave < 2**(band + 1)."""
    return int(count**bands_per_octave).bit_length() - 1


def class_bands(class_counts: NDArray[np.int64], bands_per_octave: int) -> NDArray[np.int64]:
    """Return the band of each class, int64 [num_classes]; -1 for a class without image."""
    counts, place = np.unique(class_counts, return_inverse=True)
    return np.array([band(int(count), bands_per_octave) for count in counts], dtype=np.int64)[place]


def even_places(labels: NDArray[np.int64], num_classes: int, *, seed: int, minor: int = 0) -> NDArray[np.float64]:
    """Return a place in [0, 1) for each image, float64 [n]: those of a class in random order, at equal distances.

    Args:
        labels: Class id of each image, [n].
        num_classes: How many classes there are.
        seed: The seed of the build.
        minor: Tells images that are placed by themselves from others: the places of both are independent.
    """
    counts = np.bincount(labels, minlength=num_classes)
    shuffled = permutation(len(labels), seed=seed, stream=Stream.LAYOUT, minor=minor)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    rank_in_class = np.empty(len(labels), dtype=np.int64)
    rank_in_class[by_class] = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels[by_class]]
    offset = uniforms(num_classes, seed=seed, stream=Stream.LAYOUT, major=1, minor=minor)
    return (rank_in_class + offset[labels]) / counts[labels]


def stratified_order(
    labels: NDArray[np.int64], bands: NDArray[np.int64], places: NDArray[np.float64]
) -> tuple[NDArray[np.int64], list[StratumRecord]]:
    """Order the samples of a split by stratum, rarest classes first, and inside by their places.

    Args:
        labels: Class id of each image, [n].
        bands: Band of each class, [num_classes].
        places: Place of each image in its stratum, [n].

    Returns:
        The images in their new order, int64 [n], and the strata as ranges of that order.
    """
    band_of_image = bands[labels]
    order = np.lexsort((labels, places, band_of_image))
    of_stratum, firsts, sizes = np.unique(band_of_image[order], return_index=True, return_counts=True)
    strata = [
        StratumRecord(band=int(b), first=int(first), samples=int(size))
        for b, first, size in zip(of_stratum, firsts, sizes, strict=True)
    ]
    return order, strata
