import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrsys.data.plan.passes import Choices, occurrences, taken_positions


@st.composite
def strata(draw):
    """A tape of samples, and quotas of its classes, from none to many times each image."""
    counts = np.array(draw(st.lists(st.integers(1, 12), min_size=1, max_size=6)))
    quota = np.array(draw(st.lists(st.integers(0, 60), min_size=len(counts), max_size=len(counts))))
    tape = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)
    tape = tape[np.random.default_rng(draw(st.integers(0, 1000))).permutation(len(tape))]
    random = np.random.default_rng(draw(st.integers(0, 1000))).integers(0, 2**32, (2, len(counts)))
    return tape, counts, quota, Choices(*random)


@given(strata())
@settings(max_examples=300)
def test_quotas_are_met_evenly_and_in_reading_order(stratum):
    tape, counts, quota, choices = stratum
    positions = taken_positions(tape, counts, quota, choices)
    assert (np.diff(positions) > 0).all()
    samples = positions % len(tape)
    assert (np.bincount(tape[samples], minlength=len(counts)) == quota).all()
    used = np.bincount(samples, minlength=len(tape))
    for class_id in range(len(counts)):
        assert np.ptp(used[tape == class_id]) <= 1


@given(strata())
def test_no_more_passes_are_made_than_the_neediest_class_needs(stratum):
    tape, counts, quota, choices = stratum
    positions = taken_positions(tape, counts, quota, choices)
    if len(positions):
        neediest = (-(-quota // counts)).max()
        assert positions[-1] < neediest * len(tape)


def test_one_image_in_ten_is_found_in_a_tenth_of_the_tape():
    counts = np.full(50, 100)
    tape = np.argsort(((np.arange(5000) % 100) + np.repeat(np.linspace(0, 1, 50), 100)) / 100) // 100
    choices = Choices(np.zeros(50, dtype=np.int64), np.zeros(50, dtype=np.int64))
    positions = taken_positions(tape.astype(np.uint16), counts, np.full(50, 10), choices)
    assert positions[-1] < 1.02 * len(tape) / 10


def test_occurrences_count_earlier_samples_of_the_class():
    tape = np.array([0, 1, 0, 0, 1, 2], dtype=np.uint16)
    assert occurrences(tape, np.array([3, 2, 1])).tolist() == [0, 0, 1, 2, 1, 0]
