"""Episodes of classes that are taken for novel ones, counted."""

import numpy as np
import pytest

from ltrsys.features.episodes import Episode, Episodes

SIZES = [6, 9, 30, 30, 7, 100]
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(len(SIZES)), SIZES))
ROWS_OF_CLASS = [np.flatnonzero(np.equal(LABELS, class_id)) for class_id in range(len(SIZES))]
NUM_NOVEL, SHOTS, QUERIES = 3, 5, 12


def draw(number: int, seed: int = 0) -> Episode:
    return Episodes(ROWS_OF_CLASS, NUM_NOVEL, SHOTS, QUERIES, seed).episode(number)


@pytest.mark.parametrize("number", range(30))
def test_an_episode_asks_of_both_kinds_and_never_shows_what_it_asks(number: int) -> None:
    episode = draw(number)
    assert len(set(episode.novel_V.tolist())) == NUM_NOVEL
    assert episode.support_VS.shape == (NUM_NOVEL, SHOTS)
    assert (LABELS[episode.support_VS] == episode.novel_V[:, None]).all()
    assert len(np.unique(episode.support_VS)) == NUM_NOVEL * SHOTS
    assert not np.isin(episode.query_Q, episode.support_VS).any()

    asked = np.bincount(LABELS[episode.query_Q], minlength=len(SIZES))
    for class_id in episode.novel_V:
        assert asked[class_id] == min(QUERIES // NUM_NOVEL, SIZES[class_id] - SHOTS)
    of_novel = asked[episode.novel_V].sum()
    assert len(np.unique(episode.query_Q[:of_novel])) == of_novel
    assert asked.sum() == of_novel + QUERIES


def test_other_base_classes_are_asked_for_equally_often_and_all_of_their_images() -> None:
    episodes, rows = 600, []
    for number in range(episodes):
        rows.append(draw(number).query_Q[-QUERIES:])
    drawn = np.bincount(LABELS[np.concatenate(rows)])
    expected = episodes * QUERIES / len(SIZES)
    # in half of the episodes a class is one of the other three, and their number is binomial
    spread = (episodes * (0.5 * (QUERIES / 3 * 2 / 3 + (QUERIES / 3) ** 2) - (QUERIES / 6) ** 2)) ** 0.5
    assert abs(drawn - expected).max() < 5 * spread
    assert set(np.concatenate(rows).tolist()) == set(range(len(LABELS)))


def test_an_episode_is_a_pure_function_of_its_number_and_the_seed() -> None:
    first, again, next_one, other = draw(4), draw(4), draw(5), draw(4, seed=1)
    assert np.array_equal(first.query_Q, again.query_Q)
    assert np.array_equal(first.support_VS, again.support_VS)
    assert not np.array_equal(first.support_VS, next_one.support_VS)
    assert not np.array_equal(first.support_VS, other.support_VS)


def test_a_class_is_asked_for_once_at_least_where_queries_are_few() -> None:
    episode = Episodes(ROWS_OF_CLASS, NUM_NOVEL, SHOTS, 1, 0).episode(0)
    assert sorted(LABELS[episode.query_Q[:NUM_NOVEL]]) == sorted(episode.novel_V)
    assert len(episode.query_Q) == NUM_NOVEL + 1
