"""Features are written by a thread, one batch behind what computes them."""

import errno
import threading

import numpy as np
import pytest
import torch

from ltrsys.config.reading import load_run_config
from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import DataError, LtrsysError
from ltrsys.features.making.extraction import features_of, images_of_bank, write_features
from ltrsys.features.making.rows import RowFile
from ltrsys.features.making.writing import WriterThread
from ltrsys.models.stored.weights import load_network
from ltrsys.world import World
from tests.classifiers.conftest import CPU
from tests.classifiers.runs import make_run

KINDS = ("last", "no_relu")


@pytest.fixture
def threads():
    """Return the names of what writes features."""
    return lambda: [thread.name for thread in threading.enumerate() if thread.name.startswith("features")]


@pytest.fixture
def extract(tmp_path, tiny_shards):
    """Write the features of val, in batches of 50 of its 120 images; return what was asked and made."""
    run = make_run(tmp_path / "run", tiny_shards, backbone="resnet10")
    config = load_run_config(run, ["balance.feature_batch_size=50"])
    split = Dataset.open(tiny_shards).split("val")
    network = load_network(config.model, 12, run.model).eval()

    def extract():
        paths = {kind: tmp_path / f"{kind}.npy" for kind in KINDS}
        for path in paths.values():
            np.save(path, np.full((len(split), network.feature_dim), np.nan, dtype=np.float32))
        write_features(network.backbone, split, paths, config, world=World(), device=CPU)
        return paths

    extract.network, extract.split, extract.config = network, split, config
    return extract


def test_every_batch_is_written_to_the_bit(extract, threads):
    expected = {kind: [] for kind in KINDS}
    loader = images_of_bank(extract.split, extract.config, world=World(), device=CPU)
    with torch.inference_mode():
        for batch in loader:
            for kind, features in features_of(extract.network.backbone, batch.images, KINDS).items():
                expected[kind].append(features.numpy().copy())
    loader.close()
    assert len(expected["last"]) == 3
    for kind, path in extract().items():
        assert np.load(path).tobytes() == np.concatenate(expected[kind]).tobytes()
    assert not threads()


@pytest.mark.parametrize("batch", [0, 2])
def test_a_full_disk_ends_the_extraction_with_its_own_line(extract, threads, monkeypatch, batch):
    def write(self, positions, rows_ND):
        if positions[0] == 50 * batch:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RowFile, "write", write)
    with pytest.raises(LtrsysError, match=r"last\.npy: the disk is full"):
        extract()
    assert not threads()


@pytest.mark.parametrize("batch", [0, 2])
def test_features_that_are_not_finite_end_it_with_the_name_of_the_image(extract, threads, batch):
    numbers = iter(range(3))
    extract.network.backbone.conv1.register_forward_hook(
        lambda *called: called[-1] * float("nan") if next(numbers) == batch else called[-1]
    )
    with pytest.raises(DataError, match="gives NaN or infinite features") as told:
        extract()
    assert str(told.value).startswith(extract.split.describe(50 * batch))
    assert not threads()


def test_ctrl_c_leaves_no_thread(extract, threads):
    numbers = iter(range(3))

    def interrupt(*called):
        if next(numbers) == 1:
            assert threads(), "the first batch is with the thread"
            raise KeyboardInterrupt

    extract.network.backbone.conv1.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract()
    assert not threads()


def test_a_batch_is_written_while_the_next_one_is_computed_and_no_further():
    begun, may_end, written = threading.Event(), threading.Event(), []

    def slow(features):
        begun.set()
        assert may_end.wait(timeout=30)
        written.append(features["last"].tolist())

    with WriterThread() as writer:
        writer.add({"last": torch.ones(1, 2)}, slow)
        assert begun.wait(timeout=30)
        assert not written, "here the next batch is computed"
        later = threading.Timer(0.2, may_end.set)
        later.start()
        writer.add({"last": torch.zeros(1, 2, dtype=torch.bfloat16)}, slow)
        assert written[:1] == [[[1.0, 1.0]]], "the second one has waited for the first"
    assert written == [[[1.0, 1.0]], [[0.0, 0.0]]]
    later.join()
