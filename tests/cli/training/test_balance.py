"""`ltrsys balance` and `ltrsys evaluate` from end to end, on real shards and a real network."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from ltrsys.calibration.calibration import load_calibration
from ltrsys.cli.main import main
from ltrsys.config.reading import load_run_config
from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import DataError
from ltrsys.evaluation.results import Results, read_results
from ltrsys.features.bank import FeatureBank
from ltrsys.models.stored.weights import load_network, save_network
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trained_on import keep_record
from ltrsys.second_stage.store import load_fitted
from tests.classifiers.runs import make_run, without_splits, write_model
from tests.conftest import TINY_COUNTS

pytestmark = pytest.mark.long

REPORT = {
    "accuracy_by_split.png",
    "trade_off.png",
    "calibration.png",
    "accuracy_by_tau.png",
    "weight_norms.png",
    "sampling_weights.png",
    "per_class.csv",
}

PAPERS = ["joint", "ncm", "crt", "tau", "lws"]
"""The classifiers that are fitted unless others are asked for."""


def ltrsys(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


def times(run: RunFolder) -> dict[str, int]:
    return {str(path.relative_to(run.path)): path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The network is so small that handing it to threads costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path) -> RunFolder:
    """A run that has been balanced; tests leave it as it is."""
    run = make_run(tmp_path_factory.mktemp("runs") / "balanced", tiny_shards)
    assert ltrsys("balance", run.path) == 0
    return run


@pytest.fixture
def again(balanced: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the balanced run, to change."""
    return RunFolder(Path(shutil.copytree(balanced.path, tmp_path / "again")))


@pytest.fixture
def run(tmp_path: Path, tiny_shards: Path) -> RunFolder:
    return make_run(tmp_path / "run", tiny_shards)


def test_results_json_is_the_contract(balanced: RunFolder) -> None:
    results = json.loads(balanced.results.read_text())
    assert (results["format"], results["dataset"], results["num_classes"]) == (2, "glyphs", 12)
    assert results["split"] == "test"
    assert results["classes"] == {"many": 1, "medium": 5, "few": 6}
    assert [line["classifier"] for line in results["results"]] == PAPERS
    for line in results["results"]:
        shots = sum(line[shot] * results["images"][shot] for shot in ("many", "medium", "few"))
        assert shots == pytest.approx(line["all"] * results["images"]["all"])
        assert line["mean_class_accuracy"] == line["all"]  # the test split is balanced
        low, high = line["confidence_95"]["mean_class_accuracy"]
        assert low <= line["mean_class_accuracy"] <= high
        assert line["all"] <= line["top3"] <= line["top5"]
        low, high = line["confidence_95"]["all"]
        assert low <= line["all"] <= high
        assert (line["versus_joint"] is None) == (line["classifier"] == "joint")
        assert line["selected_on"] == ("val" if line["classifier"] == "tau" else None)
        if line["versus_joint"]:
            gained, lost = line["versus_joint"]["gained"], line["versus_joint"]["lost"]
            gain = (gained - lost) / results["images"]["all"] * 100
            assert line["all"] - results["results"][0]["all"] == pytest.approx(gain)
            assert line["versus_joint"]["mean_class_accuracy_p_value"] == line["versus_joint"]["p_value"]
    assert results["images_per_class"] == {"smallest": 20, "largest": 20, "empty_classes": 0}
    assert results["tau_curve"]["mean_class_accuracy"] == results["tau_curve"]["all"]
    assert isinstance(results["results"][3]["params"]["tau"], float)


def test_the_table_has_the_papers_columns(balanced: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert ltrsys("balance", balanced.path) == 0
    table = capsys.readouterr().out
    assert "many medium" in " ".join(table.split())
    for name in ("Joint", "NCM", "cRT", "τ-normalised", "LWS", "chosen on val"):
        assert name in table
    assert str(balanced.results) in table


def test_json_prints_results_json_and_nothing_else(balanced: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert ltrsys("balance", balanced.path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(balanced.results.read_text())


def test_balancing_again_writes_nothing(balanced: RunFolder) -> None:
    before = times(balanced)
    assert ltrsys("balance", balanced.path) == 0
    assert times(balanced) == before


@pytest.mark.parametrize("name", PAPERS)
def test_evaluate_repeats_its_line_exactly(balanced: RunFolder, capsys: pytest.CaptureFixture[str], name: str) -> None:
    before = times(balanced)
    assert ltrsys("evaluate", balanced.path, "--classifier", name, "--split", "test", "--json") == 0
    repeated = Results.model_validate_json(capsys.readouterr().out)
    results = read_results(balanced.results)
    of_the_table_alone = {"tilt": None, "calibration": None}
    assert repeated.results == [results.line(name).model_copy(update=of_the_table_alone)]
    assert (repeated.split, repeated.images) == ("test", results.images)
    assert times(balanced) == before


def test_evaluate_takes_any_split(balanced: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert ltrsys("evaluate", balanced.path, "--classifier", "crt", "--split", "train", "--json") == 0
    results = Results.model_validate_json(capsys.readouterr().out)
    assert (results.split, results.images["all"]) == ("train", 425)
    assert ltrsys("evaluate", balanced.path, "--classifier", "crt", "--split", "val") == 0
    assert "glyphs, val" in capsys.readouterr().out


def test_the_report_is_complete(balanced: RunFolder) -> None:
    assert {path.name for path in balanced.report.iterdir()} == REPORT
    for path in balanced.report.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_table_per_class_adds_up_to_the_results(balanced: RunFolder) -> None:
    with open(balanced.report / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["class"]) for row in rows] == list(range(12))
    assert sum(int(row["train_images"]) for row in rows) == 425
    for line in read_results(balanced.results).results:
        right = sum(float(row[line.classifier]) * int(row["test_images"]) for row in rows)
        assert right / 240 == pytest.approx(line.all, abs=0.01)
        few = [float(row[line.classifier]) for row in rows if row["shot"] == "few"]
        assert np.mean(few) == pytest.approx(line.few, abs=0.01)


def test_how_sure_a_classifier_is_told_as_numpy_and_scipy_find_it(tmp_path: Path, tiny_shards: Path) -> None:
    run = make_run(tmp_path / "run", tiny_shards, backbone="resnet10")
    assert ltrsys("balance", run.path, "--classifiers", "crt", "balance.bn=recalibrate") == 0
    weights = load_file(run.classifiers / "crt.safetensors")
    weight, bias = (weights[name].numpy().astype(float) for name in ("weight", "bias"))
    splits = {}
    for name in ("train", "val", "test"):
        features, labels = (np.load(run.features / name / f"{array}.npy") for array in ("features", "labels"))
        splits[name] = features.astype(float) @ weight.T + bias, labels
    (val, val_labels), (test, labels) = splits["val"], splits["test"]
    best = minimize_scalar(
        lambda log: -log_softmax(val / np.exp(log), axis=1)[np.arange(120), val_labels].mean(),
        bounds=(-12, 12), method="bounded", options={"xatol": 1e-10},
    )  # fmt: skip
    line = read_results(run.results).line("crt").calibration
    assert line.temperature == pytest.approx(np.exp(best.x), rel=1e-4)
    assert (line.fitted_on, line.fitted_images) == ("val", 120)
    shares = np.bincount(splits["train"][1]) / 425
    on_val, on_test = (softmax(logits / line.temperature, axis=1) for logits in (val, test))
    few = shares[labels] * 425 < 20
    for sets, over in ((line.sets, 1.0), (line.adjusted_sets, shares)):
        conformity = np.sort((on_val / over)[np.arange(120), val_labels])[::-1]
        inside = on_test / over >= conformity[int(np.ceil(121 * 0.9)) - 1]
        covered = inside[np.arange(240), labels]
        assert sets.coverage["all"] == pytest.approx(100 * covered.mean(), abs=0.5)
        assert sets.coverage["few"] == pytest.approx(100 * covered[few].mean(), abs=1)
        assert sets.mean_size["all"] == pytest.approx(inside.sum(axis=1).mean(), abs=0.05)
    for reliability, chances in ((line.before, softmax(test, axis=1)), (line.after, on_test)):
        confidence, correct = chances.max(axis=1), chances.argmax(axis=1) == labels
        gaps = np.bincount(np.ceil(confidence * 15).astype(int), weights=correct - confidence)
        expected = 100 * np.abs(gaps).sum() / 240
        assert reliability.calibration_error_equal_width["all"] == pytest.approx(expected, abs=0.5)
    for reached in line.precisions:
        answered = on_test.max(axis=1) >= (2 if reached.threshold is None else reached.threshold)
        assert reached.answered["all"] == pytest.approx(100 * answered.mean(), abs=0.5)


def test_without_calibration_nothing_of_it_is_made(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert ltrsys("balance", run.path, "--classifiers", "joint", "balance.calibrate=false") == 0
    assert "How sure" not in capsys.readouterr().out
    assert read_results(run.results).line("joint").calibration is None
    assert not run.calibration.exists()
    assert not (run.report / "calibration.png").exists()
    with pytest.raises(
        DataError, match=r"it is not known how sure joint is: `ltrsys balance .* balance.calibrate=true`"
    ):
        load_calibration(run, "joint")
    before = times(run)
    assert ltrsys("balance", run.path, "--classifiers", "joint", "balance.calibrate=true") == 0
    assert "How sure" in capsys.readouterr().out
    assert load_calibration(run, "joint").fitted_on == "val"
    changed = {path for path, time in times(run).items() if before.get(path) != time}
    assert not {path for path in changed if path.startswith(("classifiers", "features"))}


def test_metrics_get_one_line_per_balancing(balanced: RunFolder) -> None:
    (line,) = (json.loads(text) for text in balanced.metrics.read_text().splitlines())
    joint = read_results(balanced.results).line("joint")
    assert line["test/joint/few"] == joint.few
    assert line["test/joint/mean_class_accuracy"] == joint.mean_class_accuracy


def test_only_what_has_changed_is_fitted_again(again: RunFolder) -> None:
    before, old = times(again), read_results(again.results)
    assert ltrsys("balance", again.path, "balance.ncm.feature=plain") == 0
    changed = {path for path, time in times(again).items() if before.get(path) != time}
    assert {path for path in changed if path.startswith(("classifiers", "features", "calibration"))} == {
        "classifiers/ncm.safetensors",
        "calibration/ncm.safetensors",
    }
    new = read_results(again.results)
    assert new.line("ncm").params["feature"] == "plain"
    assert [new.line(name) for name in PAPERS if name != "ncm"] == [old.line(name) for name in PAPERS if name != "ncm"]


def test_balancing_some_keeps_the_lines_of_the_others(run: RunFolder) -> None:
    assert ltrsys("balance", run.path, "--classifiers", "joint,ncm") == 0
    assert [line.classifier for line in read_results(run.results).results] == ["joint", "ncm"]
    assert {path.name for path in run.report.iterdir()} == REPORT - {"accuracy_by_tau.png"}
    assert ltrsys("balance", run.path, "--classifiers", "tau") == 0
    assert [line.classifier for line in read_results(run.results).results] == ["joint", "ncm", "tau"]
    write_model(run, load_run_config(run), seed=1)
    assert ltrsys("balance", run.path, "--classifiers", "tau") == 0
    assert [line.classifier for line in read_results(run.results).results] == ["tau"], "the others are out of date"


def as_format_1(results: Path) -> None:
    """Leave out what results of format 1 did not have."""
    values = json.loads(results.read_text())
    del values["images_per_class"], values["tau_curve"]["mean_class_accuracy"]
    for line in values["results"]:
        del line["confidence_95"]["mean_class_accuracy"]
        if line["versus_joint"]:
            del line["versus_joint"]["mean_class_accuracy_p_value"]
    results.write_text(json.dumps(values | {"format": 1}))


def test_results_of_format_1_are_read_and_completed_without_a_fit(again: RunFolder) -> None:
    complete = read_results(again.results)
    as_format_1(again.results)
    before = times(again)
    assert ltrsys("balance", again.path, "--classifiers", "joint") == 0
    assert read_results(again.results) == complete, "also the lines that were not asked for"
    changed = {path for path, time in times(again).items() if before.get(path) != time}
    assert not {path for path in changed if path.startswith(("classifiers", "features"))}


def test_tau_is_chosen_anew_where_it_is_chosen_by_another_measure(again: RunFolder) -> None:
    before = times(again)
    assert ltrsys("balance", again.path, "balance.select_by=accuracy") == 0
    changed = {path for path, time in times(again).items() if before.get(path) != time}
    assert {path for path in changed if path.startswith(("classifiers", "features"))} == {"classifiers/tau.safetensors"}


def test_without_test_and_val_classifiers_are_fitted_and_one_line_says_that_nothing_is_reported(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run", without_splits(tiny_shards, tmp_path / "shards", "test", "val"))
    assert ltrsys("balance", run.path, "--json") == 0
    assert json.loads(capsys.readouterr().out) is None
    (line,) = (text for text in caplog.messages if "neither a test nor a val split" in text)
    assert "--val 0.1 --test 0.1" in line
    assert str(run.classifiers) in line
    assert {path.stem for path in run.classifiers.iterdir()} == set(load_run_config(run).balance.classifiers)
    assert load_fitted(run.classifiers, "tau", torch.device("cpu")).classifier.selected_on == "train"
    assert load_calibration(run, "ncm").fitted_on == "train by 5-fold cross-validation"
    assert {path.stem for path in run.calibration.iterdir()} == set(load_run_config(run).balance.classifiers)
    assert not run.results.exists()
    before = times(run)
    assert ltrsys("balance", run.path) == 0
    assert times(run) == before, "they are kept as any others"
    assert ltrsys("evaluate", run.path, "--classifier", "tau", "--split", "train") == 0
    assert "The train split is not balanced" in capsys.readouterr().out
    assert "has no val split" in refused(capsys, 2, "balance", run.path, "balance.tau.select_on=val")


def test_tau_learned_or_from_train_says_so(again: RunFolder) -> None:
    for select_on in ("train", "learned"):
        assert ltrsys("balance", again.path, "--classifiers", "tau", f"balance.tau.select_on={select_on}") == 0
        assert read_results(again.results).line("tau").selected_on == select_on


def test_without_a_test_split_val_is_reported_and_tau_comes_from_train(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", without_splits(tiny_shards, tmp_path / "shards", "test"))
    assert ltrsys("balance", run.path, "--classifiers", "tau") == 0
    results = read_results(run.results)
    assert (results.split, results.images["all"], results.line("tau").selected_on) == ("val", 120, "train")
    assert results.line("tau").calibration.fitted_on.startswith("train by 5-fold cross-validation; its joint weights")
    assert "τ-normalised: train by 5-fold cross-validation" in capsys.readouterr().out
    assert ltrsys("balance", run.path, "--classifiers", "tau", "balance.val_is_test=true") == 0
    line = read_results(run.results).line("tau")
    assert (line.selected_on, line.params["val_is_test"]) == ("val", True)
    assert line.calibration.fitted_on == "val, which is reported"
    error = refused(capsys, 1, "evaluate", run.path, "--split", "test")
    assert "there is no `test` split here (there is: train, val)" in error


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    capsys.readouterr()
    assert ltrsys(*arguments) == code
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert "Traceback" not in line
    return line


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("balance", "evaluate"):
        assert f"{tmp_path}: not a run folder" in refused(capsys, 2, command, tmp_path)


def test_a_run_that_is_still_training_is_refused(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.model.unlink()
    assert "training has not finished" in refused(capsys, 2, "balance", run.path)


def test_unknown_names_are_refused_with_the_known_ones(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert "`ctr`: unknown classifier. Did you mean crt?" in refused(
        capsys, 2, "balance", run.path, "--classifiers", "joint,ctr"
    )
    assert "choose from train, val, test" in refused(capsys, 2, "evaluate", run.path, "--split", "tset")
    assert "unknown key `balance.tau.gird`. Did you mean `balance.tau.grid`?" in refused(
        capsys, 2, "balance", run.path, "balance.tau.gird=[1.0]"
    )


def test_what_the_model_was_trained_with_cannot_be_changed(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, 2, "balance", run.path, "model.backbone=resnet50")
    assert "`model.backbone=resnet50`: after training only these may be changed: " in error
    assert "balance.*, shots.*, tracking.*" in error


def test_evaluating_before_balancing_says_what_to_run(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no feature bank here. `ltrsys balance` makes one" in refused(capsys, 1, "evaluate", run.path)
    assert ltrsys("balance", run.path, "--classifiers", "joint") == 0
    assert "this classifier has not been fitted" in refused(capsys, 1, "evaluate", run.path, "--classifier", "lws")


def test_evaluating_after_the_model_changed_is_refused(again: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(again, load_run_config(again), seed=1)
    assert "the model has changed since this bank was made" in refused(capsys, 1, "evaluate", again.path)


def test_a_classifier_of_another_bank_is_refused(again: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert ltrsys("balance", again.path, "--classifiers", "joint", "balance.bn=recalibrate") == 0
    assert "ncm was fitted on another feature bank" in refused(capsys, 1, "evaluate", again.path, "--classifier", "ncm")


def test_features_that_are_not_finite_name_the_image(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    network = load_network(load_run_config(run).model, 12, run.model)
    next(network.backbone.parameters()).data[0] = torch.nan
    save_network(network, run.model)
    assert "(sample 0): the backbone gives NaN or infinite features" in refused(capsys, 1, "balance", run.path)


def test_wandb_gets_the_plots_and_the_table_per_class(again: RunFolder) -> None:
    assert ltrsys("balance", again.path, "balance.ncm.feature=l2n", "tracking.wandb=offline") == 0
    names = {path.name.rsplit("_", 2)[0] for path in again.path.glob("wandb/offline-run-*/files/media/**/*.*")}
    assert {"accuracy_by_split", "accuracy_by_tau", "weight_norms", "sampling_weights", "per_class"} <= names


@pytest.mark.distributed
def test_two_ranks_make_the_bank_of_one(run: RunFolder, balanced: RunFolder) -> None:
    command = Path(sys.executable).parent / "ltrsys"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*launch, str(command), "balance", str(run.path), "--json"],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["images"]["all"] == 240
    for split in ("train", "val", "test"):
        one, two = (np.load(folder.features / split / "features.npy") for folder in (balanced, run))
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)


def test_shards_that_have_changed_since_the_training_are_told_and_other_classes_refused(
    again: RunFolder,
    tiny_shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    keep_record(again, Dataset.open(tiny_shards))
    fewer = without_splits(tiny_shards, tmp_path / "fewer", "val")
    assert ltrsys("balance", again.path, f"data.shards={fewer}", "--classifiers", "joint") == 0
    assert f"data.shards={fewer} has changed since it was trained: val had 120 images and has 0." in caplog.text
    others = without_splits(tiny_shards, tmp_path / "others")
    record = json.loads((others / "dataset.json").read_text())
    record["classes"][:2] = record["classes"][1::-1]
    (others / "dataset.json").write_text(json.dumps(record))
    before = times(again)
    capsys.readouterr()
    assert ltrsys("balance", again.path, f"data.shards={others}") == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "has other classes than it was trained on: 2 classes numbered anew (" in printed
    assert ltrsys("evaluate", again.path, f"data.shards={others}", "--classifier", "joint") == 2
    assert capsys.readouterr().err == printed, "balancing again would be no way out"
    assert times(again) == before


@pytest.mark.parametrize("head", ["cosine", "oltr_cosine"])
def test_a_cosine_head_is_balanced_but_for_what_needs_the_norms_of_its_weights(head, tmp_path, tiny_shards, capsys):
    run = make_run(tmp_path / "run", tiny_shards, head)
    for name in ("tau", "lws"):
        assert ltrsys("balance", run.path, "--classifiers", f"joint,{name},ncm") == 2
        refused = rf"{name} does not apply to model\.head={head}: it .* Give --classifiers joint,ncm\."
        assert re.search(refused, capsys.readouterr().err)
    assert not run.features.exists(), "that is said before all work"
    assert ltrsys("balance", run.path, "--classifiers", "joint,ncm") == 0
    config = load_run_config(run)
    network = load_network(config.model, 12, run.model).eval()
    split = FeatureBank.open(run.features).split("test")
    features = torch.from_numpy(np.array(split.features))
    joint = load_fitted(run.classifiers, "joint", torch.device("cpu")).classifier
    with torch.no_grad():
        assert torch.equal(joint.scores(features), network.classifier(features))
    line = read_results(run.results).line("joint")
    assert line.all == pytest.approx(100 * (joint.rank(features, 1)[:, 0].numpy() == split.labels).mean())
    assert not (run.report / "weight_norms.png").exists()
    capsys.readouterr()
    assert ltrsys("evaluate", run.path, "--classifier", "joint", "--split", "test", "--json") == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["all"] == line.all


def test_weights_are_generated_beside_a_head_of_cosines(tmp_path, tiny_shards, capsys):
    run = make_run(tmp_path / "run", tiny_shards, "cosine")
    asked = ("balance", run.path, "--classifiers", "fslwf,joint")
    assert ltrsys(*asked, "balance.fslwf.episode_novel=6") == 1
    assert "an episode needs 7 (balance.fslwf.episode_novel and one more). Lower" in capsys.readouterr().err
    assert ltrsys(*asked, "balance.fslwf={episodes: 2, epochs: 1}") == 0
    base_classes = sum(count > 20 for count in TINY_COUNTS)
    line = read_results(run.results).line("fslwf")
    assert line.params["base_classes"] == base_classes
    assert f"{base_classes} base classes, scale " in capsys.readouterr().out
