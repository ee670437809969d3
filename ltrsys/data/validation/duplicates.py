"""Images that are there twice: the same pixels, or nearly the same picture.

Of two perceptual hashes that differ in at most four of 64 bits, at least two of six parts are equal. So sorting by each
of the fifteen pairs of parts brings all such hashes together, and no image is compared with all others.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltrsys.data.index.records import SPLITS
from ltrsys.data.validation.staging import Staged, jpegs_of
from ltrsys.files import json_text, replaced

DISTANCE = 4
"""Bits of 64 in which the hashes of near duplicates differ at most."""
PARTS = DISTANCE + 2


@dataclass(frozen=True)
class Duplicates:
    """Which images are the same picture."""

    cluster: NDArray[np.int64]
    """Number of the cluster of each image, [images]; an image without a duplicate is one of its own."""
    exact: NDArray[np.int64]
    """The same for images of equal pixels alone."""

    def across(self, parts: NDArray[np.int64], *, exact: bool = False) -> NDArray[np.int64]:
        """Return the clusters with images of more than one of the `parts` (the splits, say), ascending."""
        pairs = np.unique(np.stack([self.exact if exact else self.cluster, parts], axis=1), axis=0)
        clusters, counts = np.unique(pairs[:, 0], return_counts=True)
        return clusters[counts > 1]


def find_duplicates(pixels: NDArray[np.void], looks: NDArray[np.uint64]) -> Duplicates:
    """Find the clusters of duplicates: those of equal pixels, and those whose hashes differ in at most `DISTANCE` bits.

    Args:
        pixels: Digest of each image's pixels, 16 bytes each, [images].
        looks: Perceptual hash of each image, [images].
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    exact = _numbered(pixels)
    different, look = np.unique(looks, return_inverse=True)
    pairs = list(near_pairs(different))
    one, other = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
    graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(different), len(different)))
    _, of_look = connected_components(graph, directed=False)
    # equal pixels have equal hashes
    return Duplicates(np.asarray(of_look, np.int64)[look], exact)


def confirmed(found: Duplicates, staged: Staged, at_once: int = 1024) -> Duplicates:
    """Return the duplicates with `exact` by the SHA-256 of all pixels, where the digests in small are equal."""
    again = np.flatnonzero(np.bincount(found.exact)[found.exact] > 1)
    digests = [b""] * len(found.exact)
    for start in range(0, len(again), at_once):
        places = again[start : start + at_once]
        for place, jpeg in zip(places, jpegs_of(staged.take(places)), strict=True):
            digests[place] = hashlib.sha256(Image.open(io.BytesIO(jpeg)).tobytes()).digest()
    number: dict[tuple[int, bytes], int] = {}
    keys = zip(found.exact.tolist(), digests, strict=True)
    return replace(found, exact=np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64))


def near_pairs(hashes: NDArray[np.uint64], distance: int = DISTANCE) -> Iterator[NDArray[np.int64]]:
    """Yield the pairs of places whose hashes differ in at most `distance` bits, int64 [2, pairs]; some more than once.

    Args:
        hashes: Different hashes, [n].
        distance: At most `DISTANCE`.
    """
    bounds = np.linspace(0, 64, PARTS + 1).astype(int)
    masks = [((1 << int(end)) - 1) ^ ((1 << int(start)) - 1) for start, end in pairwise(bounds)]
    for one, other in combinations(masks, 2):
        keys = hashes & np.uint64(one | other)
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys[order]
        step = 1
        first = np.arange(len(keys))
        while len(first):  # each hash with the next of its key, then with the one after that, ...
            first = first[first + step < len(keys)]
            first = first[sorted_keys[first] == sorted_keys[first + step]]
            pair = np.stack([order[first], order[first + step]])
            yield pair[:, np.bitwise_count(hashes[pair[0]] ^ hashes[pair[1]]) <= distance]
            step += 1


def _numbered(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def joined(
    units: NDArray[np.int64], positions: NDArray[np.float64], cluster: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Join the units that have images of one cluster.

    Args:
        units: Unit of each image, [images].
        positions: Position of each unit, [units].
        cluster: Cluster of each image, [images].

    Returns:
        The joined unit of each image, and the position of each joined unit, the lowest of its parts.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(positions) + int(cluster.max(initial=-1)) + 1
    edges = (np.ones(len(units), np.int8), (units, cluster + len(positions)))
    _, component = connected_components(coo_array(edges, shape=(count, count)), directed=False)
    numbers, of_unit = np.unique(component[: len(positions)], return_inverse=True)
    lowest = np.ones(len(numbers))
    np.minimum.at(lowest, of_unit, positions)
    return of_unit[units].astype(np.int64), lowest


def surplus(found: Duplicates, splits: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which images have a duplicate in a later split of train, val and test, bool [images]."""
    latest = np.zeros(int(found.cluster.max(initial=-1)) + 1, np.int64)
    np.maximum.at(latest, found.cluster, splits)
    return splits < latest[found.cluster]


def write_duplicates(
    path: Path,
    found: Duplicates,
    items: Sequence[str],
    splits: NDArray[np.int64],
    classes: Sequence[str],
    dropped: NDArray[np.bool_],
) -> int:
    """Write `path`, `duplicates.jsonl`: a line a cluster that is in several splits, or in several classes.

    Returns:
        The number of images of val and test that have a duplicate in another split.
    """
    across = np.isin(found.cluster, found.across(splits))
    of_two_classes = np.isin(found.exact, found.across(np.unique(classes, return_inverse=True)[1], exact=True))
    told = across | np.isin(found.cluster, found.cluster[of_two_classes])
    if not told.any():
        return 0
    places = np.flatnonzero(told)
    places = places[np.argsort(found.cluster[places], kind="stable")]
    with replaced(path, "w") as file:
        for own in np.split(places, 1 + np.flatnonzero(np.diff(found.cluster[places]))):
            images = [
                {"split": SPLITS[splits[place]], "class": classes[place], "item": items[place]}
                | ({"dropped": True} if dropped[place] else {})
                for place in own
            ]
            kind = "exact" if len(np.unique(found.exact[own])) == 1 else "near"
            file.write(json_text({"kind": kind, "images": images}) + "\n")
    return int((across & (splits > 0)).sum())
