"""What the measures of mixing say of orders whose mixing is known."""

import numpy as np
import pytest

from benchmarks.mixing_measures import (
    distance_of_distributions,
    distinct_classes,
    gaps,
    parts_of_epoch,
    places_in_both,
    rank_of_position,
    share_scores,
    span_probabilities,
    together_again,
)

LABELS = np.repeat(np.arange(50), 40)
RANDOM = np.random.default_rng(0)


def test_a_share_is_scored_against_draws_without_replacement():
    # 3 of 4 draws of class 0 in the first half of 8: expected 2, variance 4 * 1/4 * 4/7
    scores = share_scores(np.array([0, 0, 0, 1, 0, 1, 1, 1]), parts_of_epoch(8, 2))
    assert scores == pytest.approx(np.array([[1, -1], [-1, 1]]) / (4 / 7) ** 0.5)


def test_shares_of_shuffles_have_a_standard_deviation_of_one():
    scores = [share_scores(RANDOM.permutation(LABELS), parts_of_epoch(len(LABELS), 4)) for _ in range(50)]
    assert np.std(scores) == pytest.approx(1, abs=0.03)
    assert np.std(share_scores(np.tile(np.arange(50), 40), parts_of_epoch(2000, 4))) < 0.1
    assert np.std(share_scores(LABELS, parts_of_epoch(2000, 4))) > 3


def test_narrow_spans_are_improbable_and_those_of_shuffles_as_probable_as_any():
    assert span_probabilities(LABELS).max() < 1e-50
    found = np.concatenate([span_probabilities(RANDOM.permutation(LABELS)) for _ in range(50)])
    assert np.mean(found < 0.1) == pytest.approx(0.1, abs=0.03)
    assert len(span_probabilities(np.arange(100))) == 0


def test_gaps_count_batches_in_the_mean_distance_of_draws():
    assert gaps(np.tile(np.arange(50), 40), 50).tolist() == [1.0] * 50 * 39
    shuffles = [gaps(RANDOM.permutation(LABELS), 50) for _ in range(3)]
    assert distance_of_distributions(*shuffles[:2]) < 0.05
    assert distance_of_distributions(shuffles[2], gaps(np.tile(np.arange(50), 40), 50)) > 0.3


def test_every_rank_has_its_positions_and_its_distinct_classes():
    rank = rank_of_position(8, 4, 12, 20)
    assert sorted(rank[:8].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert rank[8:].tolist() == rank[:8].tolist()
    assert distinct_classes(np.array([0, 0, 1, 1, 2, 3, 2, 3]), 4, np.array([0, 1, 0, 1] * 2)) == 1.5


def test_samples_of_two_orders_are_paired_with_themselves():
    one, other = np.array([5, 7, 7, 9]), np.array([7, 1, 5])
    samples, place, other_place = places_in_both(one, other, RANDOM)
    assert samples.tolist() == [5, 7]
    assert (one[place] == samples).all()
    assert (other[other_place] == samples).all()


def test_pairs_that_share_a_batch_again_are_counted_with_what_chance_would_give():
    labels = np.array([0, 1, 2, 0])
    # once: (0, 1) and (2, 3); again: (0, 1); of the five pairs of two classes
    assert together_again(labels, np.array([0, 0, 1, 1]), np.array([4, 4, 4, 5])) == (1, 2 * 3 / 5)
    batch = np.arange(6000) // 60
    again, expected = together_again(np.arange(6000), batch, RANDOM.permutation(batch))
    assert again == pytest.approx(expected, abs=4 * expected**0.5)
    assert together_again(np.arange(6000), batch, batch)[0] > 50 * expected
