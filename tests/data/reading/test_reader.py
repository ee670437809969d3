import dataclasses
import errno
import os
import shutil

import numpy as np
import psutil
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.photographs import photograph_source
from ltrsys.data.index.columns import COLUMNS, column_path
from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.index.records import ShardRecord, SplitRecord, StratumRecord
from ltrsys.data.reading.ranges import READ_THROUGH_BYTES
from ltrsys.data.reading.reader import BadSample, ShardReader
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards

GAP = READ_THROUGH_BYTES


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory):
    """48 photographs in 8 shards."""
    folder = tmp_path_factory.mktemp("many")
    source = photograph_source(np.array([30, 12, 6]), short_side=64)
    return build_shards(source, folder / "shards", BuildOptions(max_shard_bytes=32 * 1024)).folder


@pytest.fixture
def split(many_shards):
    return Dataset.open(many_shards).split("train")


def copied(many_shards, tmp_path):
    """A copy whose shards a test may damage."""
    split = Dataset.open(many_shards).split("train")
    (tmp_path / "shards").mkdir()
    for shard in range(len(split.record.shards)):
        path = split.shard_path(shard)
        (tmp_path / "shards" / path.name).write_bytes(path.read_bytes())
    return dataclasses.replace(split, folder=tmp_path)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
def test_the_bytes_are_those_that_webdataset_reads(split):
    shards = [str(split.shard_path(shard)) for shard in range(len(split.record.shards))]
    assert len(shards) > 4
    theirs = [sample["jpg"] for sample in webdataset.WebDataset(shards, shardshuffle=False)]
    assert ShardReader(split).read(np.arange(len(split))) == theirs


def test_samples_come_in_the_order_asked_for(split):
    samples = np.array([40, 3, 3, 17])
    in_order = ShardReader(split).read(np.arange(len(split)))
    for one, sample in zip(ShardReader(split).read(samples), samples, strict=True):
        assert one == in_order[sample]


def test_what_was_read_outlives_its_shard(split):
    reader = ShardReader(split, max_open_shards=1)
    read = reader.read(np.arange(len(split)))
    reader.close()
    assert [bytes(one) for one in read] == [bytes(one) for one in ShardReader(split).read(np.arange(len(split)))]


def test_no_more_shards_stay_open_than_allowed(split):
    def shards_open():
        return [file.path for file in psutil.Process().open_files() if file.path.endswith(".tar")]

    before = shards_open()
    reader = ShardReader(split, max_open_shards=2)
    for sample in range(len(split)):
        reader.read(np.array([sample]))
    assert len(shards_open()) == len(before) + 2
    reader.close()
    assert shards_open() == before


def error_of(split, sample):
    """What reading says about one sample; those around it are read as ever."""
    (found,) = ShardReader(split).read(np.array([sample]))
    assert isinstance(found, BadSample)
    assert found.sample == sample
    assert "\n" not in str(found)
    return str(found)


def test_a_missing_shard_is_named_with_the_sample(many_shards, tmp_path):
    split = copied(many_shards, tmp_path)
    split.shard_path(2).unlink()
    sample = int(np.flatnonzero(split.shard == 2)[1])
    assert f"train-000002.tar: this shard is missing (sample {sample} is in it)" in error_of(split, sample)
    reader = ShardReader(split)
    found = reader.read(np.array([len(split) - 1, sample, 0]))
    assert [isinstance(one, BadSample) for one in found] == [False, True, False]


def test_a_truncated_shard_keeps_what_is_before_the_cut(many_shards, tmp_path):
    split = copied(many_shards, tmp_path)
    samples = np.flatnonzero(split.shard == 1)
    cut = int(split.offset[samples[2]]) + 1
    os.truncate(split.shard_path(1), cut)
    found = ShardReader(split).read(samples)
    assert [isinstance(one, BadSample) for one in found] == [False, False] + [True] * (len(samples) - 2)
    message = error_of(split, int(samples[2]))
    assert f"train-000001.tar: truncated: {cut} of its {split.record.shards[1].bytes} bytes are there" in message
    assert f"sample {samples[2]} is cut off" in message


def test_a_shard_that_shrinks_while_it_is_open_does_not_end_the_process(many_shards, tmp_path):
    """A memory map would: SIGBUS."""
    split = copied(many_shards, tmp_path)
    reader, samples = ShardReader(split), np.flatnonzero(split.shard == 1)
    before = reader.read(samples)
    os.truncate(split.shard_path(1), 0)
    after = reader.read(samples)
    assert all(isinstance(one, BadSample) for one in after)
    assert "truncated: 0 of its" in str(after[0])
    assert before[0] == ShardReader(Dataset.open(many_shards).split("train")).read(samples)[0]


def test_an_index_that_shrinks_while_it_is_open_is_still_there(many_shards, tmp_path):
    split = Dataset.open(shutil.copytree(many_shards, tmp_path / "shards")).split("train")
    columns = {name: getattr(split, name) for name in COLUMNS}
    assert not any(isinstance(column, np.memmap) for column in columns.values())
    for name in COLUMNS:
        os.truncate(column_path(split.folder, name), 0)
    whole = Dataset.open(many_shards).split("train")
    for name, column in columns.items():
        np.testing.assert_array_equal(column, getattr(whole, name))


def test_a_shard_that_vanishes_while_it_is_open_is_read_on(many_shards, tmp_path):
    split = copied(many_shards, tmp_path)
    reader = ShardReader(split)
    reader.read(np.array([0]))
    split.shard_path(0).unlink()
    assert not isinstance(reader.read(np.array([0]))[0], BadSample)
    assert "this shard is missing" in error_of(split, 0)


def test_a_read_error_is_told_with_the_sample(split, monkeypatch):
    def fail(descriptor, size, offset):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    assert error_of(split, 3) == (
        f"{split.describe(3)}: this shard cannot be read: Input/output error. Copy it there again, or build the shards "
        "again."
    )


def test_one_flipped_bit_is_noticed(many_shards, tmp_path):
    split = copied(many_shards, tmp_path)
    with open(split.shard_path(0), "r+b") as shard:
        shard.seek(int(split.offset[1] + split.size[1]) - 100)
        byte = shard.read(1)[0]
        shard.seek(-1, os.SEEK_CUR)
        shard.write(bytes([byte ^ 4]))
    assert f"{split.describe(1)}: its bytes do not have the checksum of the index" in error_of(split, 1)
    assert not isinstance(ShardReader(split).read(np.array([0]))[0], BadSample)


@pytest.mark.parametrize("column", ["offset", "size"])
def test_an_index_that_points_beyond_its_shard_does_not_fit(split, column):
    values = np.array(getattr(split, column))
    values[5] = 10**8
    wrong = dataclasses.replace(split, **{column: values})
    assert "the index does not fit this shard" in error_of(wrong, 5)
    assert "sample 5 is not where the index says" in error_of(wrong, 5)


def test_a_sample_without_bytes_does_not_fit(split):
    size = np.array(split.size)
    size[3] = 0
    assert "sample 3 is not where the index says" in error_of(dataclasses.replace(split, size=size), 3)


def test_announcing_what_is_not_there_tells_nothing(many_shards, tmp_path):
    split = copied(many_shards, tmp_path)
    split.shard_path(0).unlink()
    reader = ShardReader(split)
    reader.announce(np.arange(len(split)))
    assert reader.amplification.bytes_used == split.size.sum()


# What is counted. A hollow shard has sizes and places, but no content.


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
