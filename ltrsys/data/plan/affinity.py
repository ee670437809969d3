"""Affinity: deals the images of a batch so that a node keeps to its part of the shards, where draws are of k images.

The k images of a class that are drawn together stand in one batch and go to k micro-batches: whichever lane they come
from, they must be dealt anew in every batch. Each image that an epoch takes has a home, one of P parts along its
stratum; position j of a batch belongs to home j mod P, and so to the ranks that read this part in every batch
(`lanes_modulo_ranks`). The homes of a batch's images are as random as its draws, and its positions are dealt out
evenly: so only the images of the frequent classes, half of all draws, are sent home. Those of the rare classes, few
enough that every node reads all of them, fill the rest.
"""

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.plan.lanes import lane_of_segment, prefix_products

POSITIONS_OF_A_HOME = 64
"""A batch has at least so many positions for each home. Half of them are asked for on average, by images at random; so
none is full, and images of a class that are drawn together meet in a micro-batch hardly more often than by chance."""

ANYWHERE = -1


def number_of_homes(lanes: int, batch_size: int) -> int:
    """Return P: as many as a batch has room for, and no home in two parts that ranks do not have together."""
    fits = [parts for parts in prefix_products(lanes) if not batch_size % parts]
    return max([parts for parts in fits if parts * POSITIONS_OF_A_HOME <= batch_size], default=1)


def sent_home(class_counts: NDArray[np.int64], quotas: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which classes' images are sent home: the most frequent ones, up to half of all draws; bool [C].

    Args:
        class_counts: Images of each class, int64 [C].
        quotas: How often the epoch draws each, int64 [C].
    """
    order = np.argsort(-class_counts, kind="stable")
    home = np.zeros(len(class_counts), dtype=np.bool_)
    home[order] = 2 * np.cumsum(quotas[order]) <= quotas.sum()
    return home


def homes(positions: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """Return the home of each image that an epoch takes of a stratum: part after part, the same number of draws each.

    Args:
        positions: Their places in the stratum, those of an image that is taken twice alike; int64 [draws, k].
        parts: P.

    Returns:
        int64 [draws, k].
    """
    along = np.sort(positions, axis=None)
    edges = along[len(along) * np.arange(1, parts) // parts]
    return lane_of_segment(parts)[np.searchsorted(edges, positions, side="right")]


def deal(home: NDArray[np.int64], batch_size: int, parts: int) -> NDArray[np.int64]:
    """Return which image of the order stands at each position, int64 [N]; none leaves its batch.

    The order of the draws is random already. Within a home it stays, and who has none is dealt from home to home: so
    the images of a draw are apart. Which home and which place come first changes from batch to batch.

    Args:
        home: The home of each image in the order of the draws, or `ANYWHERE`, int64 [N].
        batch_size: B; an incomplete last batch stays as it is.
        parts: P, a divisor of B.
    """
    batches, room = len(home) // batch_size, batch_size // parts
    whole = batches * batch_size
    dealt = np.where(home == ANYWHERE, parts, home)[:whole].reshape(batches, batch_size).astype(np.uint16)

    by_home = np.argsort(dealt, axis=1, kind="stable")
    sorted_home = np.take_along_axis(dealt, by_home, 1)
    asked = np.stack([np.count_nonzero(dealt == part, axis=1) for part in range(parts)], axis=1)
    first = np.concatenate([np.zeros((batches, 1), dtype=np.int64), np.cumsum(asked, axis=1)], axis=1)
    place = np.arange(batch_size) - np.take_along_axis(first, sorted_home.astype(np.int64), 1)

    homeless = np.empty((batches, batch_size), dtype=np.bool_)
    np.put_along_axis(homeless, by_home, (sorted_home == parts) | (place >= room), 1)

    batch = np.arange(batches)[:, None]
    turned = (np.arange(parts) + batch) % parts
    left = np.take_along_axis(room - np.minimum(asked, room), turned, 1)
    at, _, turn = np.nonzero(np.arange(room)[:, None] < left[:, None, :])
    dealt[homeless] = turned[at, turn]

    of_home = np.argsort(dealt, axis=1, kind="stable").reshape(batches, parts, room)
    of_home = np.take_along_axis(of_home, ((np.arange(room) + batch // parts) % room)[:, None, :], 2)
    order = of_home.transpose(0, 2, 1).reshape(batches, batch_size) + batch_size * batch
    return np.append(order, np.arange(whole, len(home)))
