import dataclasses
import errno
import os
import shutil

import numpy as np
import psutil
import pytest
import webdataset

from benchmarks.photographs import photograph_source
from ltrsys.data.index.columns import COLUMNS, column_path
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.reader import BadSample, ShardReader
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards


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
