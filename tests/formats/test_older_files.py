"""Files that older versions wrote are read to the same values: one folder a version in `files`."""

import json
from pathlib import Path

import pytest
import torch

from ltrsys.classifiers.base import CLASSIFIERS, ValSplit
from ltrsys.config.reading import load_config
from ltrsys.errors import UsageError
from ltrsys.evaluation.results import read_results
from ltrsys.first_stage.resuming import as_begun, check_same_experiment, check_same_plan
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.fitting import Fitter
from ltrsys.second_stage.store import load_fitted
from ltrsys.training.checkpoints.checkpoint import Checkpoint

VERSIONS = sorted(path for path in (Path(__file__).parent / "files").iterdir() if path.is_dir())
CPU = torch.device("cpu")

every_version = pytest.mark.parametrize("files", VERSIONS, ids=lambda path: path.name)


class Bank:
    @staticmethod
    def fingerprint_of(kind: str) -> str:
        return "bank"


@every_version
def test_a_run_goes_on_with_the_config_and_the_checkpoint_that_it_was_begun_with(files):
    config, path = load_config(files / "config.yaml"), files / "checkpoint.safetensors"
    checkpoint = Checkpoint.load(path)
    check_same_plan(checkpoint.progress, path)
    check_same_experiment(checkpoint.progress, config, "d" * 64, path)
    assert config.data.sampler.kind == "power"
    assert (config.train.optimizer.backbone_lr, config.train.schedule.step) == (0.01, "epoch")
    assert (config.train.label_smoothing, config.train.loss.kind) == (0.1, "cross_entropy")
    assert checkpoint.network.keys() == {"backbone.weight", "classifier.weight", "classifier.bias"}
    assert checkpoint.optimizer.keys() == {f"{name}.momentum_buffer" for name in checkpoint.network}


@every_version
def test_what_differs_is_still_named(files):
    path = files / "checkpoint.safetensors"
    config = load_config(files / "config.yaml", ["train.optimizer.lr=0.3"])
    with pytest.raises(UsageError, match=r"begun with train\.optimizer\.lr=0\.1, but the config now says 0\.3"):
        check_same_experiment(Checkpoint.load(path).progress, config, "d" * 64, path)


@every_version
def test_a_key_of_a_later_version_counts_as_its_default(files):
    checkpoint = Checkpoint.load(files / "checkpoint.safetensors")
    del checkpoint.progress.config["train"]["label_smoothing"]
    path, config = files / "checkpoint.safetensors", load_config(files / "config.yaml", ["train.label_smoothing=0.0"])
    check_same_experiment(checkpoint.progress, config, "d" * 64, path)


@every_version
def test_settings_of_a_method_that_is_no_longer_loaded_do_not_matter(files):
    checkpoint, path = Checkpoint.load(files / "checkpoint.safetensors"), files / "checkpoint.safetensors"
    checkpoint.progress.config["balance"]["mine"] = {"scale": 2.0}
    check_same_experiment(checkpoint.progress, load_config(files / "config.yaml"), "d" * 64, path)


@every_version
def test_classifiers_rank_as_they_did_and_are_not_fitted_anew(files):
    expected = json.loads((files / "expected.json").read_text())
    # Until another measure could be chosen, it was this one.
    features, config = (
        torch.tensor(expected["features"]),
        load_config(files / "config.yaml", ["balance.select_by=accuracy"]),
    )
    fitter = Fitter(RunFolder(files), Bank(), config.balance, ValSplit("val"), config.seed, CPU, "linear")
    for name, ranking in expected["rankings"].items():
        fitted = load_fitted(files / "classifiers", name, CPU)
        assert fitted.classifier.rank(features, 2).tolist() == ranking
        assert fitter.fingerprint(name) == fitted.fingerprint == expected["fingerprints"][name]
        assert fitter.current(name) is not None
    assert expected["rankings"].keys() <= set(CLASSIFIERS.names())


@every_version
def test_tau_is_chosen_anew_where_it_is_chosen_by_another_measure_and_nothing_else_is(files):
    config = load_config(files / "config.yaml")
    fitter = Fitter(RunFolder(files), Bank(), config.balance, ValSplit("val"), config.seed, CPU, "linear")
    assert config.balance.select_by == "mean_class_accuracy"
    assert [name for name in ("joint", "ncm", "crt", "tau", "lws") if fitter.current(name) is None] == ["tau"]


@every_version
@pytest.mark.parametrize("now", ["mean_class_accuracy", "accuracy"])
def test_a_run_from_before_the_best_could_be_chosen_goes_on_by_accuracy(files, now, caplog):
    config, path = load_config(files / "config.yaml", [f"train.select_by={now}"]), files / "checkpoint.safetensors"
    progress = Checkpoint.load(path).progress
    check_same_experiment(progress, config, "d" * 64, path)
    begun = as_begun(config, progress, told=True)
    assert begun.train.select_by == "accuracy"
    assert begun.model_copy(update={"train": config.train}) == config, "nothing else is changed"
    assert ("goes on to be chosen by accuracy" in caplog.text) == (now != "accuracy")


@every_version
def test_results_are_read(files):
    results = read_results(files / "results.json")
    assert [line.classifier for line in results.results] == ["joint", "ncm", "crt", "tau", "lws"]
    assert results.format == 2 or not any(line.complete for line in results.results)
