"""The feature bank, made with real shards, the real loader and a real network."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ltrsys.config.reading import load_run_config
from ltrsys.config.schema import Config
from ltrsys.data.config import make_sampler
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.loader import EvaluationLoader, TrainLoader
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.data.reading.quarantine import quarantined, replacements
from ltrsys.errors import DataError, LtrsysError
from ltrsys.features.bank import FeatureBank
from ltrsys.features.making.extraction import make_bank, write_features
from ltrsys.models.stored.weights import load_network, save_network
from ltrsys.runs.folder import RunFolder
from ltrsys.world import World
from tests.classifiers.conftest import CPU
from tests.classifiers.runs import make_run, write_model

ALONE = World()


@pytest.fixture
def run(tmp_path: Path, tiny_shards: Path) -> RunFolder:
    return make_run(tmp_path / "run", tiny_shards)


def bank_of(run: RunFolder, *overrides: str) -> FeatureBank:
    config = load_run_config(run, list(overrides))
    return make_bank(run, config, Dataset.open(config.data.shards), world=ALONE, device=CPU)


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}


def test_row_i_is_sample_i(run: RunFolder, tiny_shards: Path) -> None:
    bank, dataset, config = bank_of(run), Dataset.open(tiny_shards), load_run_config(run)
    network = load_network(config.model, dataset.num_classes, run.model).eval()
    assert bank.complete == ("train", "val", "test")
    for name in bank.complete:
        split, source = bank.split(name), dataset.split(name)
        np.testing.assert_array_equal(split.labels, source.label)
        np.testing.assert_array_equal(split.class_counts, source.class_counts)
        loader = EvaluationLoader(source, config.data, batch_size=50, world=ALONE, device=CPU)
        batch = next(iter(loader))
        with torch.inference_mode():
            expected = network.backbone(batch.images)
        np.testing.assert_allclose(split.features[batch.samples], expected, rtol=1e-4, atol=1e-5)
        loader.close()


@pytest.mark.parametrize("ranks", [3, 7])
def test_uneven_ranks_write_each_row_once(run: RunFolder, tiny_shards: Path, tmp_path: Path, ranks: int) -> None:
    config, split = load_run_config(run), Dataset.open(tiny_shards).split("val")
    network = load_network(config.model, 12, run.model).eval()
    assert len(split) % (ranks * config.balance.feature_batch_size)
    written = np.zeros(len(split), dtype=int)
    whole = np.full((len(split), network.feature_dim), np.nan, dtype=np.float32)
    for rank in range(ranks):
        path = tmp_path / f"{rank}.npy"
        np.save(path, np.full_like(whole, np.nan))
        write_features(network.backbone, split, {"last": path}, config, world=World(rank, ranks), device=CPU)
        rows = np.load(path)
        own = np.isfinite(rows).all(axis=1)
        np.testing.assert_array_equal(np.flatnonzero(own), np.arange(rank, len(split), ranks))
        written += own
        whole[own] = rows[own]
    assert (written == 1).all()
    np.testing.assert_allclose(whole, bank_of(run).split("val").features, rtol=1e-4, atol=1e-5)


def test_a_second_call_computes_nothing(run: RunFolder) -> None:
    bank_of(run)
    before = times(run.features)
    bank_of(run)
    assert times(run.features) == before
    assert len(before) == 6


def test_an_interrupted_bank_goes_on_with_the_missing_split(run: RunFolder) -> None:
    bank = bank_of(run)
    FeatureBank(bank.folder, bank.identity, bank.num_classes, ("train", "val")).save()
    (run.features / "test" / "features.npy").unlink()
    before = times(run.features)
    assert bank_of(run).complete == ("train", "val", "test")
    after = times(run.features)
    assert {path for path, time in after.items() if before.get(path) != time} == {
        run.features / "test" / "features.npy",
        run.features / "test" / "labels.npy",
    }


def test_another_model_makes_the_bank_anew_and_says_so(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    old = np.array(bank_of(run).split("test").features)
    write_model(run, load_run_config(run), seed=1)
    with caplog.at_level("INFO", "ltrsys"):
        new = bank_of(run).split("test").features
    assert "out of date (the model has changed): it is made again" in caplog.text
    assert not np.allclose(old, new)


def test_a_setting_that_changes_features_is_noticed(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    bank_of(run)
    with caplog.at_level("INFO", "ltrsys"):
        bank_of(run, "data.resize=40")
        bank_of(run, "data.resize=40", "data.threads=2")
    assert caplog.text.count("the setting resize has changed") == 1
    assert caplog.text.count("made again") == 1


def test_a_model_that_has_diverged_names_the_image(run: RunFolder, tiny_shards: Path) -> None:
    network = load_network(load_run_config(run).model, 12, run.model)
    next(network.backbone.parameters()).data[0] = torch.nan
    save_network(network, run.model)
    with pytest.raises(DataError, match=r"train-\d+\.tar at byte \d+ \(sample 0\): the backbone gives NaN"):
        bank_of(run)
    assert FeatureBank.open(run.features).complete == ()


def test_a_full_gpu_is_told_and_the_advice_helps(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, size = torch.nn.Conv2d.forward, load_run_config(run).balance.feature_batch_size

    def forward(self: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
        if len(images) > size // 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return plain(self, images)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", forward)
    message = rf"does not hold {size} images at once \(CUDA out of memory\)\. Lower balance\.feature_batch_size"
    with pytest.raises(LtrsysError, match=message):
        bank_of(run)
    assert bank_of(run, f"balance.feature_batch_size={size // 2}").complete == ("train", "val", "test")


def test_recalibration_averages_the_statistics_of_a_class_balanced_epoch(run: RunFolder, tiny_shards: Path) -> None:
    plain = np.array(bank_of(run).split("test").features)
    features = bank_of(run, "balance.bn=recalibrate").split("test").features
    assert not np.allclose(plain, features)
    config: Config = load_run_config(run)
    split = Dataset.open(tiny_shards).split("train")
    planner = Planner(split, make_sampler(kind="class_balanced"), seed=0, num_epochs=1, lanes=12)
    loader = TrainLoader(
        split, config.data, planner=planner, batching=Batching(64, 64, ALONE, 12), seed=config.seed, device=CPU
    )
    network = load_network(config.model, 12, run.model)
    first = network.backbone.conv1[0]
    with torch.inference_mode():
        means = [first(batch.images).mean(dim=(0, 2, 3)) for batch in loader.epoch(0)]
    loader.close()
    saved = load_file(run.features / "batch_norm.safetensors")
    torch.testing.assert_close(saved["conv1.1.running_mean"], torch.stack(means).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_recalibration_takes_images_of_full_size_and_precision_whatever_training_took(run: RunFolder) -> None:
    plain = np.array(bank_of(run, "balance.bn=recalibrate").split("test").features)
    shutil.rmtree(run.features)
    other = ["data.progressive={from_size: 16, until_epoch: 1}", "data.pixels=float16", "train.precision=bf16"]
    assert np.array_equal(bank_of(run, "balance.bn=recalibrate", *other).split("test").features, plain)


@pytest.mark.parametrize("bn", ["eval", "recalibrate"])
@pytest.mark.long
def test_a_bad_training_image_has_the_features_of_another_of_its_class(
    tmp_path: Path, tiny_shards: Path, bn: str
) -> None:
    shards = shutil.copytree(tiny_shards, tmp_path / "shards")
    run = make_run(tmp_path / "run", shards)
    whole = np.array(bank_of(run).split("train").features)
    split, sample = Dataset.open(shards).split("train"), 17
    with open(split.shard_path(int(split.shard[sample])), "r+b") as shard:
        shard.seek(int(split.offset[sample]) + 200)
        shard.write(bytes(200))
    shutil.rmtree(run.features)
    with pytest.raises(DataError, match=r"\(sample 17\): its bytes do not have the checksum"):
        bank_of(run, f"balance.bn={bn}")
    bank = bank_of(run, "data.on_error=skip", "data.max_bad_share=0.01", f"balance.bn={bn}").split("train")
    (other,) = set(replacements(split, sample, seed=0, epoch=0, position=sample)).intersection(
        np.flatnonzero((bank.features == bank.features[sample]).all(axis=1)).tolist()
    )
    assert bank.labels[other] == bank.labels[sample]
    if bn == "eval":
        np.testing.assert_allclose(
            np.delete(bank.features, sample, axis=0), np.delete(whole, sample, axis=0), rtol=1e-4, atol=1e-5
        )
    assert quarantined(run.quarantine, split) == {sample}


def test_a_damaged_record_is_named(run: RunFolder) -> None:
    bank_of(run)
    record = json.loads((run.features / "bank.json").read_text())
    (run.features / "bank.json").write_text(json.dumps({**record, "format": 9}))
    with pytest.raises(DataError, match=r"bank\.json: not a feature bank's record \(.*format 9"):
        FeatureBank.open(run.features)


def test_files_that_do_not_fit_are_named(run: RunFolder) -> None:
    bank = bank_of(run)
    np.save(run.features / "val" / "labels.npy", np.zeros(3, dtype=np.int64))
    with pytest.raises(DataError, match=r"features/val: features \(120, 1024\) and labels \(3,\) do not fit"):
        bank.split("val")
    (run.features / "val" / "features.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"val/features\.npy: this part of the feature bank cannot be read"):
        bank.split("val")


def test_a_split_that_is_not_there_lists_those_that_are(run: RunFolder) -> None:
    bank = bank_of(run)
    partial = FeatureBank(bank.folder, bank.identity, bank.num_classes, ("train",))
    with pytest.raises(DataError, match=r"no `test` split in this feature bank \(there is: train\)"):
        partial.split("test")
