"""How well an order of samples is mixed: over time, over ranks, and from epoch to epoch.

Every measure has a known distribution under independent shuffles of the same samples, or is meant to be taken of such
shuffles too. D draws, C classes that are drawn, W ranks.
"""

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.plan.batching import Batching
from ltrsys.world import World

FEW_DRAWS = 24
"""A class with fewer draws in an epoch is left out where it is asked how its draws lie in time."""


def share_scores(groups: NDArray[np.int64], parts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far each part's share of each group is from its expectation, in standard deviations; [groups, parts].

    The expectation and the standard deviation are those of sampling without replacement (the hypergeometric
    distribution): under shuffles, the scores have mean 0 and standard deviation 1.

    Args:
        groups: The group of each draw, such as its class, [D]; groups that never come are left out.
        parts: The part of the epoch that each draw falls into, such as its quarter or its rank, [D].
    """
    num_groups, num_parts = int(groups.max()) + 1, int(parts.max()) + 1
    table = np.bincount(groups * num_parts + parts, minlength=num_groups * num_parts).reshape(num_groups, num_parts)
    size, share, draws = table.sum(axis=1, keepdims=True), table.sum(axis=0) / len(groups), len(groups)
    variance = size * share * (1 - share) * (draws - size) / (draws - 1)
    known = (variance > 0).all(axis=1)
    return ((table - size * share)[known]) / np.sqrt(variance[known])


def parts_of_epoch(draws: int, parts: int) -> NDArray[np.int64]:
    """Return which of `parts` equal parts of the epoch each draw falls into, int64 [draws]."""
    return np.arange(draws) * parts // draws


def spans(labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return what part of the epoch the draws of each class with `FEW_DRAWS` or more span, and how many they are."""
    order = np.argsort(labels, kind="stable")
    draws = np.bincount(labels)
    first, draws = (np.cumsum(draws) - draws)[draws >= FEW_DRAWS], draws[draws >= FEW_DRAWS]
    return (order[first + draws - 1] - order[first]) / len(labels), draws


def span_probabilities(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each class with `FEW_DRAWS` or more how probable it is to lie within so little of an epoch; [C].

    The distance between the first and the last of m independent uniform places is below r with probability
    m r^(m-1) - (m-1) r^m.
    """
    span, draws = spans(labels)
    return np.asarray(draws * span ** (draws - 1) - (draws - 1) * span**draws)


def gaps(labels: NDArray[np.int64], draws_of_batch: int) -> NDArray[np.float64]:
    """Return the distances between batches that a class comes in, in the mean distance of its draws, of all classes."""
    counts = np.bincount(labels)
    batches = len(labels) // draws_of_batch
    cells = np.unique(labels * (batches + 1) + np.arange(len(labels)) // draws_of_batch)
    label, batch = np.divmod(cells, batches + 1)
    same = (np.diff(label) == 0) & (counts[label[1:]] >= FEW_DRAWS)
    return (np.diff(batch)[same] * counts[label[1:][same]]) / batches


def distance_of_distributions(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the largest distance of two samples' cumulative distributions (Kolmogorov-Smirnov)."""
    places = np.unique(np.concatenate([one, other]))
    at = [np.searchsorted(np.sort(values), places, side="right") / len(values) for values in (one, other)]
    return float(abs(at[0] - at[1]).max())


def rank_of_position(
    batch_size: int, ranks: int, lanes: int, samples: int, samples_per_draw: int = 1
) -> NDArray[np.int64]:
    """Return which rank takes each position of the whole batches of an epoch, int64 [whole batches x batch_size]."""
    rank = np.empty(batch_size, dtype=np.int64)
    for number in range(ranks):
        batching = Batching(batch_size, batch_size // ranks, World(number, ranks), lanes, samples_per_draw)
        rank[batching.positions(0, 0)] = number
    return np.tile(rank, samples // batch_size)


def distinct_classes(labels: NDArray[np.int64], batch_size: int, micro_batch: NDArray[np.int64]) -> float:
    """Return how many classes a micro-batch holds on average.

    Args:
        labels: Class of each sample in global order.
        batch_size: Samples of a step.
        micro_batch: The number of its micro-batch within the step, for each position of the whole batches.
    """
    labels = labels[: len(micro_batch)]
    group = np.arange(len(labels)) // batch_size * (micro_batch.max() + 1) + micro_batch
    return len(np.unique(group * (labels.max() + 1) + labels)) / len(np.unique(group))


def places_in_both(
    one: NDArray[np.int64], other: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return samples that two orders have in common, and a place of each in either, drawn where there are several."""

    def a_place_of_each(order: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        mixed = random.permutation(len(order))
        samples, first = np.unique(order[mixed], return_index=True)
        return samples, mixed[first]

    (in_one, place), (in_other, other_place) = a_place_of_each(one), a_place_of_each(other)
    both, at, other_at = np.intersect1d(in_one, in_other, assume_unique=True, return_indices=True)
    return both, place[at], other_place[other_at]


def together_again(
    labels: NDArray[np.int64], batch: NDArray[np.int64], other_batch: NDArray[np.int64]
) -> tuple[int, float]:
    """Count the pairs of samples, of two classes, that share a batch in two epochs, and say how many would by chance.

    Args:
        labels: Class of each sample, [S].
        batch: Its batch in one epoch, [S].
        other_batch: Its batch in the other, [S].
    """

    def pairs(*columns: NDArray[np.int64]) -> int:
        cell = np.zeros(len(labels), dtype=np.int64)
        for column in columns:
            cell = cell * (int(column.max()) + 1) + column
        _, size = np.unique(cell, return_counts=True)
        return int((size * (size - 1) // 2).sum())

    def of_two_classes(*columns: NDArray[np.int64]) -> int:
        return pairs(*columns) - pairs(*columns, labels)

    once, other, every = of_two_classes(batch), of_two_classes(other_batch), of_two_classes(np.zeros_like(labels))
    return of_two_classes(batch, other_batch), once * other / every


def in_draws(
    order: NDArray[np.int64], labels: NDArray[np.int64], batch_size: int, samples_per_draw: int
) -> NDArray[np.int64]:
    """Return the same samples with the images of each draw, which stand anywhere in a batch, side by side."""
    if samples_per_draw == 1:
        return order
    return order[np.lexsort((labels, np.arange(len(order)) // batch_size))]


def shuffled(order: NDArray[np.int64], samples_per_draw: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the same draws in a random order, of an order that has the images of each draw side by side."""
    return random.permutation(order.reshape(-1, samples_per_draw)).reshape(-1)
