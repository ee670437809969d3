import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltrsys.data.plan.batching import Batching, micro_batch_size
from ltrsys.data.plan.lanes import lanes_modulo_ranks
from ltrsys.errors import UsageError
from ltrsys.world import World


def all_micro_batches(ranks, *, step=3, batch_size=96, micro_batch_size=8, samples_per_draw=1):
    """Every micro-batch of a step by its first position, as the ranks see them."""
    found = {}
    for rank in range(ranks):
        batching = Batching(batch_size, micro_batch_size, World(rank, ranks), 192, samples_per_draw)
        for accumulated in range(batching.accumulation):
            positions = batching.positions(step, accumulated)
            found[int(positions[0])] = positions
    return found


@pytest.mark.parametrize("samples_per_draw", [1, 4])
@pytest.mark.parametrize("ranks", [2, 3, 4, 12])
def test_micro_batches_hold_the_same_positions_on_any_number_of_ranks(ranks, samples_per_draw):
    alone = all_micro_batches(1, samples_per_draw=samples_per_draw)
    together = all_micro_batches(ranks, samples_per_draw=samples_per_draw)
    assert alone.keys() == together.keys()
    assert all((alone[number] == together[number]).all() for number in alone)


@given(step=st.integers(0, 10**6), samples_per_draw=st.sampled_from([1, 2, 4]))
def test_a_step_takes_its_stretch_of_positions_once(step, samples_per_draw):
    positions = np.concatenate(list(all_micro_batches(4, step=step, samples_per_draw=samples_per_draw).values()))
    assert sorted(positions.tolist()) == list(range(96 * step, 96 * step + 96))


@pytest.mark.parametrize("ranks", [1, 2, 4, 12])
def test_a_rank_meets_only_its_own_lanes(ranks):
    own = lanes_modulo_ranks(192, ranks)
    assert sorted(own) == list(range(ranks))
    for rank in range(ranks):
        batching = Batching(96, 8, World(rank, ranks), 192)
        for step in range(5):
            for accumulated in range(batching.accumulation):
                assert (batching.positions(step, accumulated) % ranks == own[rank]).all()


def test_images_of_a_draw_are_dealt_to_the_micro_batches():
    batching = Batching(16, 4, World(), 192, 4)
    micro_batches = [batching.positions(0, accumulated).tolist() for accumulated in range(4)]
    assert micro_batches == [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]]


def test_without_a_micro_batch_size_each_rank_takes_its_part_at_once():
    batching = Batching(64, micro_batch_size(None, 64, World(0, 4)), World(0, 4), 192)
    assert (batching.micro_batch_size, batching.accumulation) == (16, 1)


def test_the_incomplete_last_batch_is_dropped():
    # the paper's code: 854 steps of 512 on iNaturalist 2018
    assert Batching(512, 512, World(), 192).steps_per_epoch(437_513) == 854


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 10, World(0, 5), 192), "run on 4 ranks, or make data.lanes a multiple of 5"),
        ((100, 30, World(0, 2), 192), "not a multiple of 2 ranks times train.micro_batch_size=30"),
        ((100, 50, World(0, 2), 192, 3), "cut the 3 images"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Batching(*arguments)


def test_an_epoch_shorter_than_a_batch_is_refused():
    with pytest.raises(UsageError, match=r"fewer than train\.batch_size=64"):
        Batching(64, 64, World(), 192).steps_per_epoch(63)
