"""Episodes of classes that are taken for novel ones, counted."""

import numpy as np
import pytest

from ltrsys.features.episodes import Episode, Episodes

SIZES = [6, 9, 30, 30, 7, 100]
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(len(SIZES)), SIZES))
ROWS_OF_CLASS = [np.flatnonzero(np.equal(LABELS, class_id)) for class_id in range(len(SIZES))]
NUM_NOVEL, SHOTS, QUERIES = 3, 5, 4


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
        assert asked[class_id] == min(QUERIES, SIZES[class_id] - SHOTS)
    of_novel = asked[episode.novel_V].sum()
    assert len(np.unique(episode.query_Q[:of_novel])) == of_novel
    assert (np.delete(asked, episode.novel_V) == QUERIES).all()


def test_every_class_is_novel_as_often_as_any_other_and_all_images_are_asked_for() -> None:
    episodes = [draw(number) for number in range(600)]
    novel = np.bincount(np.concatenate([episode.novel_V for episode in episodes]))
    assert abs(novel - 300).max() < 5 * (600 / 4) ** 0.5
    asked = np.concatenate([episode.query_Q for episode in episodes])
    assert set(asked.tolist()) == set(range(len(LABELS)))


def test_an_episode_is_a_pure_function_of_its_number_and_the_seed() -> None:
    first, again, next_one, other = draw(4), draw(4), draw(5), draw(4, seed=1)
    assert np.array_equal(first.query_Q, again.query_Q)
    assert np.array_equal(first.support_VS, again.support_VS)
    assert not np.array_equal(first.support_VS, next_one.support_VS)
    assert not np.array_equal(first.support_VS, other.support_VS)


def test_a_class_is_shown_by_other_images_in_other_episodes() -> None:
    shown = [
        tuple(rows) for episode in map(draw, range(40)) for rows in episode.support_VS.tolist() if LABELS[rows[0]] == 5
    ]
    assert len(shown) > 10
    assert len(set(shown)) == len(shown)
