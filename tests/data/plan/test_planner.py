"""The properties a to f of the plan, each by name."""

import hashlib
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from benchmarks.plan import inaturalist_counts
from benchmarks.synthetic import synthetic_split
from ltrsys.data.config import make_sampler
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.errors import DataError, UsageError
from ltrsys.world import World

COUNTS = inaturalist_counts()[::20]
SPLIT = synthetic_split(COUNTS)
SAMPLERS = [
    make_sampler(kind="instance"),
    make_sampler(kind="power", q=0.75),
    make_sampler(kind="square_root"),
    make_sampler(kind="power", q=0.25),
    make_sampler(kind="class_balanced"),
    make_sampler(kind="progressive"),
    make_sampler(kind="class_aware"),
    make_sampler(kind="base_classes"),
]
LANES = 48
"""Few enough that SPLIT is worth being dealt to them."""

every_sampler = pytest.mark.parametrize(
    "sampler", SAMPLERS, ids=lambda sampler: f"{sampler.kind}{getattr(sampler, 'q', '')}"
)


def planner(sampler, split=SPLIT, **options):
    return Planner(split, sampler, **({"seed": 1, "num_epochs": 10, "lanes": LANES} | options))


def samples(sampler, epoch=4, **options):
    """Return the sample ids of an epoch in global order."""
    plan = planner(sampler, **options).epoch(epoch)
    return plan.samples(np.arange(len(plan)))


# a


@every_sampler
def test_a_each_class_is_drawn_in_its_share_of_the_epoch(sampler):
    prepared = planner(sampler)
    for epoch in (0, 5):
        drawn = np.bincount(SPLIT.label[samples(sampler, epoch)], minlength=len(COUNTS))
        share = prepared.draws * prepared.weights(epoch).probabilities * prepared.samples_per_draw
        assert abs(drawn - share).max() < prepared.samples_per_draw
        assert drawn.sum() == prepared.samples_per_epoch


def test_a_the_share_is_exact_in_expectation():
    sampler, epochs = make_sampler(kind="square_root"), 100
    prepared = planner(sampler, num_epochs=epochs)
    mean = sum(prepared.quotas(epoch) for epoch in range(epochs)) / epochs
    share = prepared.samples_per_epoch * prepared.weights(0).probabilities
    assert abs(mean - share).max() < 5 * 0.5 / epochs**0.5


def test_a_instance_balanced_is_a_permutation():
    assert sorted(samples(make_sampler())) == list(range(len(SPLIT)))


@pytest.mark.parametrize("length", [1, 100, 5000, 3 * len(SPLIT) + 1])
@every_sampler
def test_a_holds_for_an_epoch_of_any_length(sampler, length):
    if sampler.kind == "class_aware" and length < sampler.samples_per_draw:
        pytest.skip("less than one draw")
    prepared = planner(sampler, samples_per_epoch=length)
    drawn = np.bincount(SPLIT.label[samples(sampler, samples_per_epoch=length)], minlength=len(COUNTS))
    assert (drawn == prepared.quotas(4)).all()
    assert drawn.sum() == length // prepared.samples_per_draw * prepared.samples_per_draw


# b


@every_sampler
def test_b_images_of_a_class_are_used_evenly(sampler):
    used = np.bincount(samples(sampler), minlength=len(SPLIT))
    for class_id in range(len(COUNTS)):
        assert np.ptp(used[SPLIT.label == class_id]) <= 1


def test_b_holds_over_epochs_of_a_class_that_is_drawn_in_part():
    """Each epoch goes on where the last one stopped, so that all images come before any comes twice."""
    counts = np.full(20, 200)
    split = synthetic_split(counts)
    prepared = planner(make_sampler(), split, samples_per_epoch=400)
    used = sum(np.bincount(prepared.epoch(epoch).order, minlength=len(split)) for epoch in range(10))
    assert used.max() <= 2
    assert (used == 1).mean() > 0.9


# c


@every_sampler
def test_c_the_plan_is_a_pure_function(sampler):
    np.random.seed(0)  # noqa: NPY002 - the point is that the global state has no part in it
    first = samples(sampler, 3)
    np.random.seed(1)  # noqa: NPY002
    assert (samples(sampler, 3) == first).all()
    assert not np.array_equal(samples(sampler, 2), first)
    assert not np.array_equal(samples(sampler, 3, seed=2), first)


def test_c_the_plan_is_the_same_on_every_machine_and_numpy_release():
    digest = hashlib.sha256()
    for sampler in SAMPLERS[:7]:  # those that there were when the digest was taken
        # The index must not hang on numpy's own generators, so its order is written out too.
        split = synthetic_split(np.array([300, 120, 60, 33, 33, 21, 9, 9, 8, 4, 2, 1] * 6))
        for record in split.record.strata:
            inside = slice(record.first, record.first + record.samples)
            mixed = np.argsort(np.arange(record.samples) * 2_654_435_761 % 2**32)
            split.label[inside] = np.sort(split.label[inside])[mixed]
        digest.update(samples(sampler, split=split, lanes=12).astype("<i8").tobytes())
        digest.update(samples(sampler, split=split, lanes=12, shuffle_window=16).astype("<i8").tobytes())
    assert digest.hexdigest() == "706122e4d069bf189e3493ad93996fd53163b891614308155783ac882cf5b673"


def test_c_an_epoch_needs_no_earlier_one():
    late = planner(make_sampler(kind="progressive")).epoch(9)
    used = planner(make_sampler(kind="progressive"))
    for epoch in range(9):
        used.epoch(epoch)
    assert (used.epoch(9).order == late.order).all()


# d


@every_sampler
def test_d_the_global_order_does_not_depend_on_the_number_of_ranks(sampler):
    prepared = planner(sampler)
    plan = prepared.epoch(0)

    def batches(ranks):
        found = []
        for step in range(5):
            batch = [None] * 192
            for rank in range(ranks):
                batching = Batching(192, 16, World(rank, ranks), LANES, prepared.samples_per_draw)
                for accumulated in range(batching.accumulation):
                    positions = batching.positions(step, accumulated)
                    for position, sample in zip(positions, plan.samples(positions), strict=True):
                        batch[position - 192 * step] = int(sample)
            found.append(batch)
        return found

    assert batches(1) == batches(2) == batches(3) == batches(12)
    assert None not in batches(4)[0]


def parts(prepared, epoch, ranks, step=192):
    """Return the samples of each rank in an epoch."""
    plan = prepared.epoch(epoch)
    steps = np.arange(len(plan) // step)[:, None] * step
    batchings = [Batching(step, step // ranks, World(rank, ranks), prepared.lanes) for rank in range(ranks)]
    return [plan.samples(batching.positions(0, 0) + steps).reshape(-1) for batching in batchings]


@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 64])
@pytest.mark.long
def test_d_a_rank_reads_only_its_part(ranks):
    """With q = 1 the ranks share the samples out among them, the same part to the same rank in every epoch."""
    prepared = planner(make_sampler(), synthetic_split(inaturalist_counts()), lanes=192)
    one, other = parts(prepared, 0, ranks), parts(prepared, 7, ranks)
    for rank in range(ranks):
        shared = np.intersect1d(one[rank], other[rank])
        assert len(shared) > 0.98 * len(one[rank])
    assert sum(len(part) for part in one) == len(np.unique(np.concatenate(one)))


@pytest.mark.parametrize("kind", ["instance", "square_root", "class_balanced"])
@pytest.mark.parametrize("ranks", [2, 8, 16, 64])
@pytest.mark.long
def test_d_what_the_ranks_of_a_node_read_lies_together(kind, ranks):
    """In each stratum, within the node's share of what the epoch takes of it, and so of the shards."""
    ranks_a_node = ranks // 2
    split = synthetic_split(inaturalist_counts())
    prepared = planner(make_sampler(kind=kind), split, lanes=192)
    samples_of_node = np.concatenate(parts(prepared, 3, ranks)[ranks_a_node:])
    everything = np.unique(prepared.epoch(3).order)
    checked = 0
    for record in split.record.strata:
        taken = everything[(everything >= record.first) & (everything < record.first + record.samples)]
        if len(taken) < 0.2 * record.samples or (len(taken) > 0.99 * record.samples and kind != "instance"):
            continue  # in several passes, or nearly so, a node meets every sample
        own = np.unique(samples_of_node[(samples_of_node >= taken[0]) & (samples_of_node <= taken[-1])])
        assert len(own) < 0.55 * len(taken)
        # one piece of the stratum, read round: all but one of the gaps between its samples are short
        wrapped = np.sort(np.append(np.diff(own), own[0] + record.samples - own[-1]))
        assert wrapped[-2] <= 0.05 * record.samples
        assert wrapped[-1] >= 0.4 * len(taken)
        checked += 1
    assert checked >= 5


@pytest.mark.parametrize("ranks", [2, 4, 8, 64])
@pytest.mark.long
def test_d_a_node_reads_its_part_of_the_frequent_classes_where_draws_are_of_several_images(ranks):
    """Half of all draws, of what is most of the images: from no image that another node reads."""
    split = synthetic_split(inaturalist_counts())
    prepared = planner(make_sampler(kind="class_aware"), split, lanes=192, batch_size=512)
    of_nodes = [np.concatenate(of_ranks) for of_ranks in np.array_split(parts(prepared, 3, ranks, 512), 2)]
    order = np.argsort(-split.class_counts, kind="stable")
    frequent = order[: np.searchsorted(np.cumsum(prepared.quotas(3)[order]), len(split) // 2) - 1]
    own = [np.unique(samples[np.isin(split.label[samples], frequent)]) for samples in of_nodes]
    shared = np.intersect1d(*own)
    assert len(shared) <= 0.02 * len(own[0])  # those that found their home full, and one at each border of two parts
    assert max(map(len, own)) < 0.55 * sum(map(len, own))
    for record in split.record.strata:
        inside = [part[(part >= record.first) & (part < record.first + record.samples)] for part in own]
        if min(map(len, inside)) > 100:
            # one piece of what is taken, read round: the samples of the other node lie together too
            node = np.concatenate([np.zeros(len(inside[0])), np.ones(len(inside[1]))])
            node = node[np.argsort(np.concatenate(inside), kind="stable")]
            assert np.count_nonzero(np.diff(node)) <= 0.05 * len(node)


# e


@every_sampler
@pytest.mark.long
def test_e_little_is_read_in_vain_at_the_size_of_inaturalist(sampler):
    spanned, used = planner(sampler, synthetic_split(inaturalist_counts()), lanes=192, batch_size=512).bytes_spanned(4)
    assert 1 <= spanned / used <= (1.3 if sampler.kind == "class_aware" else 1.06)


@pytest.mark.parametrize("kind", ["instance", "square_root", "class_balanced"])
def test_e_with_a_window_a_lane_goes_once_round_each_of_its_stretches(kind):
    """Within a stratum no sample comes more than the shuffle window after one behind it, but where the round ends."""
    window = 16
    split = synthetic_split(inaturalist_counts())
    plan = planner(make_sampler(kind=kind), split, shuffle_window=window, lanes=48).epoch(0)
    begins = []
    for lane in range(0, 48, 7):
        order = plan.lane(lane)
        for record in split.record.strata:
            inside = order[(order >= record.first) & (order < record.first + record.samples)].astype(np.int64)
            if len(inside) < 20 * window or len(inside) > record.samples / 2:
                continue
            rising = np.sort(inside)
            gaps = np.diff(rising, append=rising[0] + record.samples)
            from_its_start = (inside - rising[(np.argmax(gaps) + 1) % len(rising)]) % record.samples
            # a sample moves by up to the window, past as many of its stratum at most, read with little skipped
            back = np.flatnonzero(np.diff(from_its_start) < -2 * window)
            assert len(back) == 0 or np.ptp(back) <= 4 * window
            begins.append(from_its_start[0] / from_its_start.max())
    assert len(begins) > 10
    assert 0.3 < np.mean(begins) < 0.7


# f


@pytest.mark.parametrize("kind", ["instance", "square_root", "class_balanced", "progressive"])
@pytest.mark.long
def test_f_runs_of_a_class_are_no_longer_than_in_independent_draws(kind):
    sampler = make_sampler(kind=kind)
    probabilities = planner(sampler).weights(4).probabilities
    random = np.random.default_rng(0)

    def repeats(labels):
        return np.count_nonzero(labels[1:] == labels[:-1])

    ours = [SPLIT.label[samples(sampler, seed=seed)] for seed in range(8)]
    independent = [random.choice(len(COUNTS), len(SPLIT), p=probabilities) for _ in range(200)]
    assert max(map(longest_run, ours)) <= max(map(longest_run, independent))
    expected, error = np.mean([*map(repeats, independent)]), np.std([*map(repeats, independent)]) / len(ours) ** 0.5
    assert np.mean([*map(repeats, ours)]) <= expected + 3 * error


@pytest.mark.parametrize("batch_size", [32, 192, 512])
@every_sampler
@pytest.mark.long
def test_f_class_counts_of_a_batch_are_no_more_dispersed_than_independent_draws(sampler, batch_size):
    prepared = planner(sampler)
    expected = batch_size * prepared.weights(4).probabilities
    random = np.random.default_rng(0)
    in_a_row, is_drawn = prepared.samples_per_draw, expected > 0

    def dispersion(labels):
        batches = labels[: len(labels) // batch_size * batch_size].reshape(-1, batch_size)
        counts = np.stack([np.bincount(batch, minlength=len(COUNTS)) for batch in batches])
        return ((counts - expected)[:, is_drawn] ** 2 / expected[is_drawn]).mean()

    ours, independent = [], []
    for seed in range(8):
        labels = SPLIT.label[samples(sampler, seed=seed)]
        ours.append(dispersion(labels))
        drawn = random.choice(len(COUNTS), len(labels) // in_a_row, p=expected / expected.sum())
        independent.append(dispersion(np.repeat(drawn, in_a_row)))
    error = (np.std(ours) + np.std(independent)) / 8**0.5
    assert np.mean(ours) <= np.mean(independent) + 3 * error


def test_f_a_batch_of_a_small_set_changes_from_epoch_to_epoch():
    split = synthetic_split(np.array([40, 30, 20, 10]))
    prepared = planner(make_sampler(), split)
    batches = {frozenset(prepared.epoch(epoch).samples(np.arange(32)).tolist()) for epoch in range(10)}
    assert len(batches) == 10


def longest_run(labels):
    changes = np.flatnonzero(np.diff(labels)) + 1
    return np.diff(np.concatenate([[0], changes, [len(labels)]])).max()


# class-aware


@pytest.mark.parametrize("samples_per_draw", [2, 4, 5])
def test_class_aware_has_all_images_of_a_draw_in_one_batch(samples_per_draw):
    sampler = make_sampler(kind="class_aware", samples_per_draw=samples_per_draw)
    rows = SPLIT.label[samples(sampler)].reshape(-1, samples_per_draw)
    assert (rows == rows[:, :1]).all()


def test_class_aware_deals_the_images_of_a_draw_to_the_micro_batches():
    sampler = make_sampler(kind="class_aware", samples_per_draw=4)
    prepared = planner(sampler)
    plan, step = prepared.epoch(0), 3
    micro_batches = [
        SPLIT.label[plan.samples(Batching(64, 16, World(), LANES, 4).positions(step, accumulated))].tolist()
        for accumulated in range(4)
    ]
    classes = SPLIT.label[plan.samples(np.arange(64 * step, 64 * step + 64, 4))].tolist()
    assert all(sorted(micro_batch) == sorted(classes) for micro_batch in micro_batches)


def test_class_aware_puts_other_images_together_in_every_epoch():
    split = synthetic_split(np.full(200, 60))
    prepared = planner(make_sampler(kind="class_aware", samples_per_draw=4), split)

    def pairs(epoch):
        rows = np.sort(prepared.epoch(epoch).order.reshape(-1, 4), axis=1)
        return {(int(a), int(b)) for row in rows for place, a in enumerate(row) for b in row[place + 1 :]}

    # of the 59 other images of its class, each is with 3, and again with 3 in the next epoch
    again = len(pairs(0) & pairs(1)) / len(pairs(0))
    assert abs(again - 3 / 59) < 4 * (3 / 59 / len(pairs(0))) ** 0.5


def test_class_aware_repeats_no_image_before_all_of_the_class_were_drawn():
    sampler = make_sampler(kind="class_aware", samples_per_draw=4)
    rows = samples(sampler).reshape(-1, 4)
    rows = rows[COUNTS[SPLIT.label[rows[:, 0]]] >= 4]
    assert len(rows)
    assert all(len(set(row)) == 4 for row in rows.tolist())


# what can go wrong, and the shared plan


def test_an_index_that_is_not_stratified_is_refused():
    split = synthetic_split(np.array([64, 64, 3, 3]))
    split.label[[0, -1]] = split.label[[-1, 0]]
    with pytest.raises(DataError, match="stratum 0 of the index"):
        planner(make_sampler(), split)


def test_an_epoch_of_less_than_one_draw_is_refused():
    with pytest.raises(UsageError, match="less than one draw"):
        planner(make_sampler(kind="class_aware"), samples_per_epoch=3)


def test_an_empty_class_is_left_out():
    split = synthetic_split(np.array([50, 0, 5]))
    drawn = np.bincount(split.label[samples(make_sampler(kind="class_balanced"), split=split)], minlength=3)
    assert drawn[1] == 0
    assert abs(drawn[0] - drawn[2]) <= 1


def make_shared(cache: Path, results) -> None:
    plan = planner(make_sampler(kind="square_root"), cache=cache).epoch(2)
    results.put((type(plan.order).__name__, hashlib.sha256(plan.order.tobytes()).hexdigest()))


def test_ranks_of_a_node_share_one_plan(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    ranks = [context.Process(target=make_shared, args=(tmp_path, results)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    found = {results.get(timeout=60) for _ in ranks}
    for rank in ranks:
        rank.join()
    alone = planner(make_sampler(kind="square_root")).epoch(2)
    assert found == {("memmap", hashlib.sha256(alone.order.tobytes()).hexdigest())}
    assert len(list(tmp_path.rglob("*.npy"))) == 1


def test_shared_plans_of_past_epochs_are_removed(tmp_path):
    prepared = planner(make_sampler(), cache=tmp_path)
    first = prepared.epoch(0)
    for epoch in (1, 2, 3):
        prepared.epoch(epoch)
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    assert sorted(first.order) == list(range(len(SPLIT)))  # still mapped


def test_a_shared_plan_belongs_to_all_it_depends_on(tmp_path):
    one = planner(make_sampler(), cache=tmp_path).epoch(0)
    for options in ({"seed": 2}, {"lanes": 96}, {"shuffle_window": 8}, {"samples_per_epoch": len(SPLIT) - 1}):
        other = planner(make_sampler(), cache=tmp_path, **options).epoch(0)
        assert not np.array_equal(one.order, other.order)
