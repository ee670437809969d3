"""Shards behind a URL: the same bits as from a disk, from servers that misbehave and a cache that is too small."""

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice

import numpy as np
import pytest
import torch

from ltrsys.data.config import DataConfig, make_sampler
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.loader import EvaluationLoader, TrainLoader
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.data.reading.opening import open_dataset
from ltrsys.data.reading.reader import BadSample, ShardReader
from ltrsys.data.reading.remote import transfer
from ltrsys.data.reading.remote.cache import ShardCache
from ltrsys.data.reading.verify import verify
from ltrsys.errors import DataError, LtrsysError
from ltrsys.world import World
from tests.data.fetching import read_everything
from tests.data.servers import FAULTS, serving

pytestmark = pytest.mark.long

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch):
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)


@pytest.fixture
def shards(tiny_shards, tmp_path):
    """A copy to damage."""
    return shutil.copytree(tiny_shards, tmp_path / "shards")


@pytest.fixture
def server(shards):
    with serving(shards) as server:
        yield server


@pytest.fixture
def remote(server, tmp_path):
    """Make configs of the served dataset."""

    def config(**options):
        defaults = {"image_size": 28, "resize": 32, "threads": 2, "lanes": 12, "retry_seconds": 20.0}
        return DataConfig(shards=server.url, cache=tmp_path / "cache", **(defaults | options))

    return config


def batches(config, epochs=(0, 1)):
    split = open_dataset(config).split("train")
    planner = Planner(split, make_sampler(kind="class_balanced"), seed=5, num_epochs=4, lanes=12)
    loader = TrainLoader(
        split, config, planner=planner, batching=Batching(32, 16, World(), 12), seed=5, device=CPU
    )  # fmt: skip
    try:
        return [batch for epoch in epochs for batch in loader.epoch(epoch)]
    finally:
        loader.close()


@pytest.fixture(scope="module")
def from_disk(tiny_shards):
    return batches(DataConfig(shards=tiny_shards, image_size=28, resize=32, threads=2, lanes=12))


def assert_same(left, right):
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one.samples, other.samples)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_http_gives_the_bits_of_the_disk_and_asks_once(remote, server, from_disk, tiny_shards):
    assert_same(batches(remote()), from_disk)
    shards = Dataset.open(tiny_shards).split("train").record.shards
    assert all(server.requests[f"/train/shards/{shard.name}"] == 1 for shard in shards)
    before = server.requests.total()
    assert_same(batches(remote()), from_disk)
    assert server.requests.total() == before + 1  # dataset.json says whether the cache is of this dataset


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_misbehaves_costs_time_and_not_samples(remote, server, from_disk, fault, monkeypatch):
    monkeypatch.setattr(transfer, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(transfer, "LONGEST_SILENCE", 0.3)
    server.faults.extend([None, fault, None, fault, fault, *([None] * 20), fault])
    assert_same(batches(remote()), from_disk)
    assert not server.faults


def test_a_server_that_knows_no_ranges_is_asked_once_a_shard(remote, server, from_disk, tiny_shards, monkeypatch):
    monkeypatch.setattr(transfer, "BLOCK_BYTES", 20_000)
    server.always = "no ranges"
    assert_same(batches(remote()), from_disk)
    for shard in Dataset.open(tiny_shards).split("train").record.shards:
        assert server.requests[f"/train/shards/{shard.name}"] == 1


def test_all_faults_together(remote, server, from_disk, monkeypatch):
    monkeypatch.setattr(transfer, "LONGEST_SILENCE", 0.3)
    server.concerning = ""  # the index too
    server.faults.extend(islice(cycle([*FAULTS, None]), 40))
    assert_same(batches(remote()), from_disk)


def test_a_server_that_is_gone_for_good_is_told_in_one_line(remote, server):
    server.always = "error 500"
    with pytest.raises(DataError) as caught:
        batches(remote(retry_seconds=0.5))
    message = str(caught.value)
    assert message.startswith(f"{server.url}/train/shards/train-0000")
    assert "given up after" in message
    assert "500" in message
    assert "\n" not in message


def test_a_server_that_never_answers_is_given_up(server, remote):
    config = remote(retry_seconds=0.3)
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"/dataset\.json: given up after \d+ tries in 0 s"):
        open_dataset(config)


def test_a_server_that_does_not_answer_is_told_of_while_it_is_waited_for(server, remote, monkeypatch, caplog):
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.005)
    config = remote(retry_seconds=0.5)
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match="given up after"):
        open_dataset(config)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{server.url}/dataset.json: ClientConnectorError: Cannot connect to host")
    assert record.getMessage().endswith(". It is asked again for up to 0.5 s.")


def test_wrong_bytes_that_come_again_and_again_are_told(remote, server):
    server.always = "wrong bytes"
    with pytest.raises(DataError, match=r"\.tar: \d+ bytes came, and their checksum is not that of dataset\.json"):
        batches(remote(retry_seconds=0.5))
    assert server.requests.most_common(1)[0][1] > 2


def test_a_wrong_index_is_told(remote, server):
    server.concerning, server.always = "label.npy", "wrong bytes"
    with pytest.raises(DataError, match=r"/index/label\.npy: \d+ bytes came, and their checksum is not"):
        open_dataset(remote(retry_seconds=0.3))


def test_a_folder_without_an_index_is_told(server, tmp_path):
    with pytest.raises(DataError, match=r"nothing/dataset\.json: there is no dataset index here"):
        open_dataset(DataConfig(shards=f"{server.url}/nothing", cache=tmp_path / "cache"))


def test_a_column_that_the_server_has_not_is_told(remote, server, shards):
    (shards / "val" / "index" / "offset.npy").unlink()
    with pytest.raises(
        DataError, match=rf"^{server.url}/val/index/offset\.npy: this column of the index is missing\. "
    ):
        open_dataset(remote())


def test_a_column_that_was_cleaned_away_is_fetched_again(remote, server):
    label = open_dataset(remote()).folder / "train" / "index" / "label.npy"
    before = label.read_bytes()
    label.unlink()
    open_dataset(remote())
    assert label.read_bytes() == before
    assert server.requests["/train/index/label.npy"] == 2
    assert server.requests["/train/index/shard.npy"] == 1


def test_a_shard_that_the_server_has_not_is_missing(remote, shards):
    split = open_dataset(remote()).split("train")
    (shards / "train" / "shards" / split.record.shards[2].name).unlink()
    sample = int(np.flatnonzero(split.shard == 2)[0])
    reader = ShardReader(split)
    reader.announce(np.array([sample]))
    (found,) = reader.read(np.array([sample]))
    assert isinstance(found, BadSample)
    assert (
        f"{split.origin.place}/train/shards/train-000002.tar: this shard is missing (sample {sample} is in it)"
        in str(found)
    )
    reader.close()


# The cache


def cached(folder):
    return sum(path.stat().st_size for path in folder.glob("*/*/shards/*"))


def test_what_is_fetched_is_counted_and_what_is_in_the_cache_is_not(remote, from_disk):
    split = open_dataset(remote()).split("train")
    whole = sum(shard.bytes for shard in split.record.shards)
    for expected in (whole, 0):
        reader = ShardReader(split)
        reader.read(np.arange(len(split)))
        assert reader.bytes_fetched == expected
        reader.close()


def test_the_cache_stays_within_its_size(remote, from_disk, tmp_path, monkeypatch):
    shards = open_dataset(remote()).split("train").record.shards
    limit = 3 * max(shard.bytes for shard in shards)
    assert limit < sum(shard.bytes for shard in shards)
    sizes = []
    make_room = ShardCache._make_room

    def watched(cache, size):
        make_room(cache, size)
        sizes.append(cached(tmp_path / "cache") + size)

    monkeypatch.setattr(ShardCache, "_make_room", watched)
    assert_same(batches(remote(cache_gb=limit / 1e9)), from_disk)
    assert len(sizes) > len(shards)  # some were fetched again
    assert max(sizes) <= limit


def test_what_a_killed_rank_left_half_fetched_is_fetched_anew(remote, tmp_path, from_disk):
    split = open_dataset(remote()).split("train")
    left = split.shard_path(0).with_name(f".{split.shard_path(0).name}.partial")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    other = left.with_name(".of-another-build.tar.partial")
    other.write_bytes(bytes(10**6))
    assert_same(batches(remote(cache_gb=0.001)), from_disk)
    assert not left.exists()
    assert not other.exists()


def test_ranks_of_a_node_fetch_each_shard_once(remote, server, tiny_shards):
    names = [shard.name for shard in Dataset.open(tiny_shards).split("train").record.shards]
    server.always = "slow"
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        digests = {done.result() for done in [pool.submit(read_everything, remote()) for _ in range(3)]}
    assert digests == {read_everything(DataConfig(shards=tiny_shards))}
    assert [server.requests[f"/train/shards/{name}"] for name in names] == [1] * len(names)


def test_a_copy_that_rots_in_the_cache_is_fetched_again(remote, server, from_disk):
    batches(remote(), epochs=[0])
    split = open_dataset(remote()).split("train")
    path = split.shard_path(1)
    path.write_bytes(bytes(path.stat().st_size))
    os.truncate(split.shard_path(2), 100)
    assert_same(batches(remote()), from_disk)
    assert server.requests[f"/train/shards/{path.name}"] == 2


def test_what_is_bad_on_the_server_too_is_bad(remote, server, shards):
    """Its shard has the checksum of the record, but the index points elsewhere: fetching it again is tried once."""
    column = shards / "train" / "index" / "checksum.npy"
    values = np.load(column)
    values[np.load(shards / "train" / "index" / "shard.npy") == 0] += 1
    np.save(column, values)
    record = json.loads((shards / "dataset.json").read_text())
    record["splits"]["train"]["columns"]["checksum"] = hashlib.sha256(column.read_bytes()).hexdigest()
    (shards / "dataset.json").write_text(json.dumps(record))
    split = open_dataset(remote()).split("train")
    reader = ShardReader(split)
    found = reader.read(np.flatnonzero(split.shard == 0))
    assert all(isinstance(one, BadSample) for one in found)
    assert server.requests[f"/train/shards/{split.record.shards[0].name}"] == 2
    reader.close()


def test_a_cache_of_somebody_else_is_refused(remote, tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(LtrsysError, match="this cache is another user's"):
        open_dataset(remote())


def test_a_cache_that_cannot_be_looked_into_is_told(server, tmp_path):
    with pytest.raises(LtrsysError, match=r"cannot be written \(File name too long\)\. Choose another name\."):
        open_dataset(DataConfig(shards=server.url, cache=tmp_path / ("x" * 300)))


def test_fetching_goes_on_ahead_of_use(remote, server):
    """Shards that are announced come without anyone asking for a sample."""
    split = open_dataset(remote()).split("train")
    reader = ShardReader(split)
    samples = np.arange(len(split))
    reader.announce(samples)
    for done in list(reader._files._ahead.values()):
        done.result(timeout=60)
    asked = server.requests.total()
    assert all(split.shard_path(shard).exists() for shard in range(len(split.record.shards)))
    reader.read(samples)
    assert server.requests.total() == asked
    reader.close()


def test_a_loader_that_is_closed_while_its_server_is_silent_leaves_no_thread_in_the_way(remote, server):
    split = open_dataset(remote()).split("train")
    server.always = "silent"
    reader = ShardReader(split)
    samples = np.arange(len(split))
    reader.announce(samples)
    threads = reader._files._threads
    reader.close()
    server.end.set()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)


def test_evaluation_and_verification_work_on_a_url(remote, tiny_shards):
    dataset = open_dataset(remote())
    assert list(verify(dataset)) == []
    seen = []
    for split, config in ((dataset.split("test"), remote()), (Dataset.open(tiny_shards).split("test"), remote())):
        loader = EvaluationLoader(split, config, batch_size=50, world=World(), device=CPU)
        seen.append(torch.cat([batch.images for batch in loader]))
        loader.close()
    assert torch.equal(*seen)


# S3


@pytest.fixture
def s3_at(monkeypatch):
    """Have s3:// mean the server at an address."""
    import s3fs

    def address(url):
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()

    yield address
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3(tiny_shards, s3_at):
    """The tiny dataset in a bucket of moto's server; gives its URL."""
    import boto3
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    s3_at(f"http://{host}:{port}")
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    for path in tiny_shards.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "bucket", f"deep/shards/{path.relative_to(tiny_shards)}")
    yield "s3://bucket/deep/shards"
    moto.stop()


def test_s3_gives_the_bits_of_the_disk(s3, from_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "BLOCK_BYTES", 50_000)
    config = DataConfig(shards=s3, cache=tmp_path / "cache", image_size=28, resize=32, threads=2, lanes=12)
    assert_same(batches(config), from_disk)
    with pytest.raises(DataError, match=r"s3://bucket/elsewhere/dataset\.json: there is no dataset index here"):
        open_dataset(config.model_copy(update={"shards": "s3://bucket/elsewhere"}))


@pytest.mark.parametrize("fault", FAULTS)
def test_an_s3_that_misbehaves_costs_time_and_not_samples(s3_at, shards, from_disk, fault, tmp_path, monkeypatch):
    """To read an object is a GET of /bucket/key: the server of files will do."""
    monkeypatch.setattr(transfer, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(transfer, "LONGEST_SILENCE", 0.3)
    config = DataConfig(
        shards="s3://bucket/shards", cache=tmp_path / "cache", image_size=28, resize=32, threads=2, lanes=12,
        retry_seconds=20.0,
    )  # fmt: skip
    shutil.copytree(shards, tmp_path / "s3" / "bucket" / "shards")
    with serving(tmp_path / "s3") as server:
        s3_at(server.url)
        server.faults.extend([None, fault, None, fault, fault, *([None] * 20), fault])
        assert_same(batches(config), from_disk)
        assert not server.faults


# Strangers


@pytest.mark.parametrize("name", ["../../../escaped.tar", "/tmp/escaped.tar", "a/b.tar", ".hidden", "pipe:touch x"])
def test_a_shard_whose_name_is_a_path_or_a_command_is_refused(remote, shards, name, tmp_path):
    record = json.loads((shards / "dataset.json").read_text())
    record["splits"]["train"]["shards"][0]["name"] = name
    (shards / "dataset.json").write_text(json.dumps(record))
    for config in (remote(), DataConfig(shards=shards)):
        with pytest.raises(DataError, match=r"dataset\.json: not a dataset index of format 2: .*\.name"):
            open_dataset(config)
    assert not list(tmp_path.rglob("*escaped*"))


def test_the_lock_of_the_cache_is_not_held_while_something_is_fetched(remote, server, tmp_path):
    """A silent server must not keep others from what is there."""
    config = remote()
    open_dataset(config)
    with open(tmp_path / "cache" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
