"""Which bytes are read, counted for hollow shards: these have sizes and places, but no content."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrsys.data.index.dataset import Split
from ltrsys.data.index.records import ShardRecord, SplitRecord, StratumRecord
from ltrsys.data.reading.ranges import READ_THROUGH_BYTES
from ltrsys.data.reading.reader import ShardReader

GAP = READ_THROUGH_BYTES


def hollow(folder, sizes, gaps):
    """One shard in which sample i of `sizes[i]` bytes stands `gaps[i]` bytes after the one before."""
    sizes, gaps = np.array(sizes, dtype=np.int64), np.array(gaps, dtype=np.int64)
    ends = np.cumsum(sizes + gaps)
    (folder / "shards").mkdir(exist_ok=True)
    with open(folder / "shards" / "hollow.tar", "wb") as file:
        file.truncate(int(ends[-1]))
    record = SplitRecord(
        samples=len(sizes),
        shards=[ShardRecord(name="hollow.tar", samples=len(sizes), bytes=int(ends[-1]), sha256="")],
        strata=[StratumRecord(band=0, first=0, samples=len(sizes))],
        class_counts=[len(sizes)],
        columns={},
    )
    zeros = np.zeros(len(sizes))
    return Split(
        name="train",
        folder=folder,
        record=record,
        label=zeros.astype(np.int32),
        shard=zeros.astype(np.uint32),
        offset=(ends - sizes).astype(np.uint64),
        size=sizes.astype(np.uint32),
        width=zeros.astype(np.uint16),
        height=zeros.astype(np.uint16),
        checksum=zeros.astype(np.uint32),
    )


def counted(split, *announcements):
    """Bytes read and used, and the requests it took, for announcements of samples."""
    reader = ShardReader(split)
    for samples in announcements:
        reader.announce(np.array(samples))
    counts = reader.amplification
    return counts.bytes_read, counts.bytes_used, counts.requests


def test_neighbours_are_asked_for_together_and_what_lies_between_others_is_not(tmp_path):
    split = hollow(tmp_path, [100, 100, 100, 10_000, 100], [1500, GAP, GAP + 1, 10, 10])
    assert counted(split, [0, 1, 2]) == (100 + GAP + 100 + 100, 300, 2)
    assert counted(split, [4, 2]) == (200, 200, 2)


def test_a_sample_that_is_announced_twice_is_read_once_if_it_is_so_at_once(tmp_path):
    split = hollow(tmp_path, [100] * 3, [GAP + 1] * 3)
    assert counted(split, [1, 0, 1]) == (200, 300, 2)
    assert counted(split, [1, 0], [1]) == (300, 300, 3)


@settings(deadline=None, max_examples=50)
@given(taken=st.lists(st.integers(0, 29), min_size=1, max_size=60), data=st.data())
def test_the_order_of_an_announcement_does_not_change_the_count(tmp_path_factory, taken, data):
    split = hollow(tmp_path_factory.mktemp("hollow"), np.arange(1, 31) * 1000, [GAP // 3, GAP + 1] * 15)
    read, used, requests = counted(split, taken)
    distinct = split.size[np.unique(taken)].sum()
    assert used == split.size[taken].sum()
    assert distinct <= read <= distinct + len(set(taken)) * GAP
    assert requests <= len(set(taken))
    assert counted(split, data.draw(st.permutations(taken))) == (read, used, requests)
