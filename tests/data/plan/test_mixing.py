"""The plan mixes as well as independent draws: over time, over ranks and from epoch to epoch, for every sampler.

Everything here is deterministic. Bounds are those that true shuffles keep to but once in a thousand cases or less.
"""

import numpy as np
import pytest

from benchmarks.mixing import EPOCHS, LANES, divisor_counts, places_lt_counts, samplers
from benchmarks.mixing_measures import (
    distance_of_distributions,
    distinct_classes,
    gaps,
    in_draws,
    parts_of_epoch,
    places_in_both,
    rank_of_position,
    share_scores,
    shuffled,
    span_probabilities,
    together_again,
)
from benchmarks.plan import inaturalist_counts
from benchmarks.synthetic import synthetic_split
from ltrsys.data.plan.planner import Planner
from ltrsys.metrics.accuracy import shot_of_class
from ltrsys.metrics.config import ShotsConfig

pytestmark = pytest.mark.long

COUNTS = {"inaturalist": inaturalist_counts(), "places_lt": places_lt_counts(), "divisors": divisor_counts()}
SPLITS = {name: synthetic_split(counts) for name, counts in COUNTS.items()}
BATCH_SIZE = {"inaturalist": 512, "places_lt": 256, "divisors": 512}
POOLED = {"inaturalist": 2, "places_lt": 5, "divisors": 5}
"""Epochs that are measured together."""
NUM_SAMPLERS = 11

every_plan = pytest.mark.parametrize(
    "orders",
    [(counts, number) for counts in COUNTS for number in range(NUM_SAMPLERS)],
    ids=lambda which: f"{which[0]}-{which[1]}",
    indirect=True,
    scope="module",
)


class Orders:
    """Some epochs of one sampler at some class counts."""

    def __init__(self, counts, number, folder):
        every = samplers(COUNTS[counts], folder)
        assert len(every) == NUM_SAMPLERS
        _, sampler, self.first = every[number]
        self.split, self.batch_size = SPLITS[counts], BATCH_SIZE[counts]
        self.labels_of_samples = self.split.label.astype(np.int64)
        self.planner = Planner(self.split, sampler, seed=3, num_epochs=EPOCHS, lanes=LANES, batch_size=self.batch_size)
        self.in_a_row = self.planner.samples_per_draw
        self.labels = [self.labels_of_samples[self.samples(epoch)] for epoch in range(POOLED[counts])]
        """The classes in global order, of each of the epochs that are measured together."""
        self.draws = [self.in_draws(labels, labels)[:: self.in_a_row] for labels in self.labels]
        self.random = np.random.default_rng(7)

    def in_draws(self, order, labels):
        return in_draws(order, labels, self.batch_size, self.in_a_row)

    def samples(self, epoch):
        plan = self.planner.epoch(self.first + epoch)
        return plan.samples(np.arange(len(plan)))


@pytest.fixture(scope="module")
def orders(request, tmp_path_factory):
    return Orders(*request.param, tmp_path_factory.mktemp("weights"))


@every_plan
def test_a_class_s_shares_of_parts_of_the_epoch_are_those_of_draws_without_replacement(orders):
    for parts in (2, 4):
        scores = np.concatenate([share_scores(draws, parts_of_epoch(len(draws), parts)) for draws in orders.draws])
        assert 0.9 <= np.sqrt(np.mean(scores**2)) <= 1.1
        if parts == 2:  # a class of few draws may be more than 4 off in a quarter by chance
            allowed = len(scores) * len(scores[0]) * 1e-4
            assert np.count_nonzero(abs(scores) > 4) / 2 <= allowed / 2 + 3 * (allowed / 2) ** 0.5


@every_plan
def test_no_class_is_all_within_less_of_the_epoch_than_by_chance(orders):
    probabilities = np.concatenate([span_probabilities(draws) for draws in orders.draws])
    if len(probabilities):
        assert 1 - (1 - probabilities.min()) ** len(probabilities) >= 0.001


@every_plan
def test_gaps_between_batches_with_a_class_are_those_of_a_shuffle(orders):
    size = orders.batch_size // orders.in_a_row
    ours = np.concatenate([gaps(draws, size) for draws in orders.draws])
    shuffles = np.concatenate([gaps(orders.random.permutation(draws), size) for draws in orders.draws])
    if len(ours):
        assert distance_of_distributions(ours, shuffles) <= 1.95 * (1 / len(ours) + 1 / len(shuffles)) ** 0.5


@pytest.mark.parametrize("ranks", [2, 4, 8, 16, 64])
@every_plan
def test_every_rank_gets_its_shares_as_in_independent_dealing(orders, ranks):
    """Of many-, medium- and few-shot images, and of each class with 50 draws or more."""
    _, shots = np.unique(shot_of_class(orders.split.class_counts, ShotsConfig()), return_inverse=True)
    of_classes = []
    for labels in orders.labels[:2]:
        rank = rank_of_position(orders.batch_size, ranks, LANES, len(labels), orders.in_a_row)
        labels = labels[: len(rank)]
        assert abs(share_scores(shots[labels], rank)).max() <= 4.5
        often = np.bincount(labels)[labels] >= 50
        if often.any():
            of_classes.append(share_scores(labels[often], rank[often]))
    if of_classes:
        assert np.sqrt(np.mean(np.concatenate(of_classes) ** 2)) <= 1.05


@every_plan
def test_a_micro_batch_holds_as_many_classes_as_one_that_is_dealt_at_random(orders):
    labels = orders.labels[0]
    micro_batch = rank_of_position(orders.batch_size, 8, LANES, len(labels), orders.in_a_row)
    dealt = orders.random.permuted(micro_batch.reshape(-1, orders.batch_size), axis=1).reshape(-1)
    random = shuffled(orders.in_draws(labels, labels), orders.in_a_row, orders.random)
    ours = distinct_classes(labels, orders.batch_size, micro_batch)
    assert ours >= 0.99 * distinct_classes(random, orders.batch_size, dealt)


@every_plan
def test_a_batch_holds_all_images_of_a_draw(orders):
    labels = orders.labels[0]
    batches = labels[: len(labels) // orders.batch_size * orders.batch_size].reshape(-1, orders.batch_size)
    assert all((np.bincount(batch) % orders.in_a_row == 0).all() for batch in batches)


@pytest.mark.parametrize("later", [1, 2, 5])
@every_plan
def test_an_image_comes_at_another_place_in_every_epoch(orders, later):
    one = orders.samples(0)
    samples, place, other = places_in_both(one, orders.samples(later), orders.random)
    # by chance alone the correlation has a standard deviation of 1/sqrt(n)
    assert abs(np.corrcoef(place, other)[0, 1]) < max(0.02, 3.3 / len(samples) ** 0.5) < 0.05
    assert abs(place - other).mean() / len(one) >= 0.30


@every_plan
def test_images_share_a_batch_as_often_again_as_by_chance(orders):
    samples, place, other = places_in_both(orders.samples(0), orders.samples(1), orders.random)
    labels = orders.labels_of_samples[samples]
    again, expected = together_again(labels, place // orders.batch_size, other // orders.batch_size)
    # images of one lane, one in 192, share a batch less often, those of two lanes so much more often
    assert abs(again / expected - 1) <= 1 / LANES + 3.3 * expected**-0.5
