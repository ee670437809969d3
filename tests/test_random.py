import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltrsys.random import Stream, permutation, uniforms, uniforms_at, words, words_at


def test_words_are_the_same_on_every_machine_and_numpy_release():
    assert words(3, seed=7, stream=Stream.ORDER, major=2, minor=5).tolist() == GOLDEN_WORDS


def test_any_word_is_had_without_those_before_it():
    everything = words(64, seed=3, stream=Stream.MERGE, major=1)
    assert (words(8, seed=3, stream=Stream.MERGE, major=1, first=40) == everything[40:48]).all()
    with pytest.raises(ValueError, match="multiple of 4"):
        words(8, seed=3, stream=Stream.MERGE, first=2)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"stream": Stream.QUOTAS}, {"major": 1}, {"minor": 1}])
def test_every_part_of_the_address_matters(changed):
    address = {"seed": 0, "stream": Stream.ORDER, "major": 0, "minor": 0}
    assert not (words(4, **address) == words(4, **(address | changed))).any()


def test_uniforms_are_uniform():
    numbers = uniforms(100_000, seed=1, stream=Stream.ORDER)
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    assert counts.sum() == 100_000
    assert abs(counts - 5000).max() < 5 * 5000**0.5


def test_a_permutation_is_a_permutation():
    assert sorted(permutation(1000, seed=1, stream=Stream.MERGE).tolist()) == list(range(1000))


GOLDEN_WORDS = [13751215653736779840, 14445273771909147373, 6041190765076825383]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30), st.integers(1, 30))
def test_the_words_of_a_place_are_those_of_the_sequence(places, each):
    address = {"seed": 3, "stream": Stream.POLICY, "major": 2, "minor": 1}
    found = words_at(np.array(places), each, **address)
    assert found.shape == (len(places), each)
    for place, row in zip(places, found, strict=True):
        first = place * each // 4 * 4
        expected = words(place * each - first + each, first=first, **address)[place * each - first :]
        assert (row == expected).all()
    assert (uniforms_at(np.array(places), each, **address) == (found >> np.uint64(11)) * 2.0**-53).all()
