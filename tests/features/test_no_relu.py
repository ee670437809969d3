"""The second kind of features of a bank, before the last ReLU: made with real shards and a real network."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ltrsys.config.reading import load_run_config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.loader import EvaluationLoader
from ltrsys.errors import DataError
from ltrsys.features.bank import FeatureBank
from ltrsys.features.config import FeatureKind
from ltrsys.features.making.extraction import make_bank, write_features
from ltrsys.models.last_relu import features_around_last_relu
from ltrsys.models.stored.weights import load_network, save_network
from ltrsys.runs.folder import RunFolder
from ltrsys.world import World
from tests.classifiers.conftest import CPU
from tests.classifiers.runs import make_run, write_model

pytestmark = pytest.mark.long

ALONE = World()
IMAGES = 425 + 120 + 240


@pytest.fixture
def run(tmp_path: Path, tiny_shards: Path) -> RunFolder:
    return make_run(tmp_path / "run", tiny_shards, backbone="resnet10")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went into a network, at each call of its first convolution."""
    sizes: list[int] = []
    plain = torch.nn.Conv2d.forward

    def forward(self: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
        if self.in_channels == 3:
            sizes.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", forward)
    return sizes


def bank_of(run: RunFolder, *overrides: str, kinds: tuple[FeatureKind, ...] = ("no_relu",)) -> FeatureBank:
    config = load_run_config(run, list(overrides))
    return make_bank(run, config, Dataset.open(config.data.shards), world=ALONE, device=CPU, kinds=kinds)


def files_of(run: RunFolder) -> dict[str, bytes]:
    return {str(path.relative_to(run.features)): path.read_bytes() for path in run.features.rglob("*.*")}


def test_row_i_is_sample_i(run: RunFolder, tiny_shards: Path) -> None:
    bank, dataset, config = bank_of(run), Dataset.open(tiny_shards), load_run_config(run)
    network = load_network(config.model, dataset.num_classes, run.model).eval()
    for name in ("train", "val", "test"):
        split = bank.split(name, "no_relu")
        loader = EvaluationLoader(dataset.split(name), config.data, batch_size=50, world=ALONE, device=CPU)
        batch = next(iter(loader))
        loader.close()
        with torch.inference_mode():
            last, no_relu = features_around_last_relu(network.backbone, batch.images)
        np.testing.assert_allclose(split.features[batch.samples], no_relu, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(split.of("last").features[batch.samples], last, rtol=1e-4, atol=1e-5)
        assert np.array_equal(split.labels, dataset.split(name).label)
        assert (split.features < 0).any()


def test_both_kinds_are_made_in_one_pass_and_the_second_only_where_it_is_asked_for(
    run: RunFolder, seen: list[int]
) -> None:
    assert bank_of(run, kinds=()).complete_no_relu == ()
    assert sum(seen) == IMAGES
    assert not list(run.features.rglob("*no_relu*"))
    alone = files_of(run)
    seen.clear()
    (run.features / "bank.json").unlink()
    bank = bank_of(run)
    assert (bank.complete, bank.complete_no_relu) == (("train", "val", "test"),) * 2
    assert sum(seen) == IMAGES
    both = files_of(run)
    assert {name: both[name] for name in alone if name != "bank.json"} == {
        name: alone[name] for name in alone if name != "bank.json"
    }, "the features of the network are the same bits with and without the second kind"


def test_where_the_first_kind_is_there_only_the_second_is_made(run: RunFolder, seen: list[int]) -> None:
    bank_of(run, kinds=())
    before = {path: path.stat().st_mtime_ns for path in run.features.rglob("*.npy")}
    seen.clear()
    bank_of(run)
    assert sum(seen) == IMAGES
    assert {path: path.stat().st_mtime_ns for path in before} == before
    after = files_of(run)
    bank_of(run)
    bank_of(run, kinds=())
    assert sum(seen) == IMAGES, "what is there is not made again"
    assert files_of(run) == after


def test_an_interrupted_second_kind_goes_on_with_the_missing_split(run: RunFolder, seen: list[int]) -> None:
    bank = bank_of(run)
    whole = np.array(bank.split("test", "no_relu").features)
    FeatureBank(bank.folder, bank.identity, bank.num_classes, bank.complete, ("train", "val")).save()
    (run.features / "test" / "features_no_relu.npy").unlink()
    seen.clear()
    assert np.array_equal(bank_of(run).split("test", "no_relu").features, whole)
    assert sum(seen) == 240


def test_a_bank_of_an_older_version_is_taken_as_it_is(run: RunFolder, seen: list[int]) -> None:
    bank_of(run, kinds=())
    record = json.loads((run.features / "bank.json").read_text())
    del record["complete_no_relu"]
    (run.features / "bank.json").write_text(json.dumps(record))
    seen.clear()
    assert bank_of(run, kinds=()).complete == ("train", "val", "test")
    assert not seen
    assert bank_of(run).complete_no_relu == ("train", "val", "test")


def test_another_model_makes_both_anew(run: RunFolder) -> None:
    old = np.array(bank_of(run).split("test", "no_relu").features)
    write_model(run, load_run_config(run), seed=1)
    assert bank_of(run, kinds=()).complete_no_relu == ()
    assert not np.allclose(bank_of(run).split("test", "no_relu").features, old)


def test_each_kind_has_a_fingerprint_of_its_own_and_both_that_of_the_model(run: RunFolder) -> None:
    bank = bank_of(run, kinds=())
    assert bank.fingerprint_of("last") == bank.identity.fingerprint, "that of banks of older versions"
    assert bank.fingerprint_of("no_relu") != bank.fingerprint_of("last")
    write_model(run, load_run_config(run), seed=1)
    other = bank_of(run, kinds=())
    assert other.fingerprint_of("no_relu") != bank.fingerprint_of("no_relu")


def test_a_second_kind_that_is_made_later_has_the_same_recalibrated_statistics(run: RunFolder, seen: list[int]) -> None:
    bn = "balance.bn=recalibrate"
    together = np.array(bank_of(run, bn).split("test", "no_relu").features)
    statistics = (run.features / "batch_norm.safetensors").read_bytes()
    (run.features / "bank.json").unlink()
    bank_of(run, bn, kinds=())
    seen.clear()
    later = bank_of(run, bn).split("test", "no_relu")
    assert sum(seen) == IMAGES, "they are not measured again"
    assert np.array_equal(later.features, together)
    assert (run.features / "batch_norm.safetensors").read_bytes() == statistics
    assert not np.allclose(together, bank_of(run).split("test", "no_relu").features)


def test_statistics_that_are_gone_are_named(run: RunFolder) -> None:
    bank_of(run, "balance.bn=recalibrate", kinds=())
    (run.features / "batch_norm.safetensors").unlink()
    with pytest.raises(DataError, match=r"batch_norm\.safetensors: these are not the BatchNorm statistics .* Delete "):
        bank_of(run, "balance.bn=recalibrate")


@pytest.mark.parametrize("ranks", [3, 7])
def test_uneven_ranks_write_each_row_once(run: RunFolder, tiny_shards: Path, tmp_path: Path, ranks: int) -> None:
    config, split = load_run_config(run), Dataset.open(tiny_shards).split("val")
    network = load_network(config.model, 12, run.model).eval()
    paths: dict[FeatureKind, Path] = {"last": tmp_path / "last.npy", "no_relu": tmp_path / "no_relu.npy"}
    for path in paths.values():
        np.save(path, np.full((len(split), network.feature_dim), np.nan, dtype=np.float32))
    for rank in range(ranks):
        write_features(network.backbone, split, paths, config, world=World(rank, ranks), device=CPU)
        written = np.arange(len(split)) % ranks <= rank
        for path in paths.values():
            np.testing.assert_array_equal(np.isfinite(np.load(path)).all(axis=1), written)
    for kind, path in paths.items():
        np.testing.assert_allclose(np.load(path), bank_of(run).split("val", kind).features, rtol=1e-4, atol=1e-5)


def test_features_that_a_relu_would_hide_name_the_image(run: RunFolder) -> None:
    network = load_network(load_run_config(run).model, 12, run.model)
    network.backbone.layer4[-1].bn2.bias.data[0] = -torch.inf  # of which a ReLU makes 0
    save_network(network, run.model)
    assert bank_of(run, kinds=()).complete == ("train", "val", "test")
    with pytest.raises(DataError, match=r"\(sample 0\): the backbone gives NaN or infinite features"):
        bank_of(run)


def test_a_bank_without_them_says_how_to_make_them(run: RunFolder) -> None:
    bank = bank_of(run, kinds=())
    with pytest.raises(DataError, match=r"no features of the kind `no_relu` of the `test` split\. Run `ltrsys balance"):
        bank.split("test", "no_relu")
    assert (bank.holds("last"), bank.holds("no_relu")) == (True, False)
    assert bank_of(run).holds("no_relu")


def test_files_that_do_not_fit_are_named(run: RunFolder) -> None:
    bank = bank_of(run)
    np.save(run.features / "val" / "features_no_relu.npy", np.zeros((3, 512), dtype=np.float32))
    with pytest.raises(DataError, match=r"features/val: features \(3, 512\) and labels \(120,\) do not fit"):
        bank.split("val", "no_relu")
