import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltrsys.data.plan.affinity import ANYWHERE, deal, homes, number_of_homes, sent_home


@given(
    seed=st.integers(0, 1000),
    parts=st.sampled_from([2, 3, 8]),
    room=st.integers(1, 40),
    batches=st.integers(1, 20),
    rest=st.integers(0, 5),
    homeless=st.floats(0, 1),
)
def test_images_stay_in_their_batch_and_go_home_while_there_is_room(seed, parts, room, batches, rest, homeless):
    random = np.random.default_rng(seed)
    size = parts * room
    images = size * batches + min(rest, size - 1)
    home = np.where(random.random(images) < homeless, ANYWHERE, random.integers(0, parts, images))
    dealt = deal(home, size, parts)
    assert sorted(dealt.tolist()) == list(range(images))
    for batch in range(batches):
        own = dealt[batch * size : (batch + 1) * size]
        assert (own // size == batch).all()
        asked = np.bincount(home[batch * size : (batch + 1) * size] + 1, minlength=parts + 1)[1:]
        at_home = np.bincount(np.arange(size)[home[own] == np.arange(size) % parts] % parts, minlength=parts)
        assert (at_home == np.minimum(asked, room)).all()
    assert (dealt[batches * size :] == np.arange(batches * size, images)).all()


def test_images_of_a_draw_without_a_home_go_to_different_ones():
    home = np.full(64 * 5, ANYWHERE)
    dealt = deal(home, 64, 8)
    draw = dealt.reshape(5, 8, 8) // 4  # by batch, place in the home, home
    for batch in draw:
        for part in range(8):
            assert len(np.unique(batch[:, part])) == 8


def test_every_position_has_images_with_and_without_a_home_alike():
    random = np.random.default_rng(0)
    home = np.where(random.random(4096 * 128) < 0.5, ANYWHERE, random.integers(0, 4, 4096 * 128))
    homeless = (home[deal(home, 128, 4)] == ANYWHERE).reshape(-1, 128).mean(axis=0)
    assert abs(homeless - 0.5).max() < 5 * (0.25 / 4096) ** 0.5


def test_homes_are_parts_of_the_stratum_with_equally_many_draws():
    places = np.random.default_rng(0).integers(0, 10**6, (1000, 4))
    home = homes(places, 8)
    assert np.bincount(home.reshape(-1)).tolist() == [500] * 8
    along = home.reshape(-1)[np.argsort(places.reshape(-1), kind="stable")]
    assert along[::500].tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    assert np.count_nonzero(np.diff(along)) == 7


def test_the_frequent_classes_are_sent_home_up_to_half_of_the_draws():
    home = sent_home(np.array([3, 50, 1, 400, 0]), np.array([10, 10, 10, 10, 0]))
    assert home.tolist() == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("lanes", "batch_size", "parts"),
    [(192, 512, 8), (192, 256, 4), (192, 64, 1), (192, 4096, 64), (48, 96, 1), (9, 576, 9)],
)
def test_there_are_as_many_homes_as_a_batch_has_room_for(lanes, batch_size, parts):
    assert number_of_homes(lanes, batch_size) == parts
