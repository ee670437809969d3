"""`cosine_no_relu` from end to end: a classifier on features of its own beside those on the ordinary ones."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ltrsys.cli.main import main
from ltrsys.evaluation.results import Results, read_results
from ltrsys.features.bank import FeatureBank
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.store import load_fitted
from tests.classifiers.conftest import CPU
from tests.classifiers.runs import SHORT, make_run

pytestmark = pytest.mark.long

BOTH = ["joint", "cosine", "cosine_no_relu"]
SETTINGS = [f"balance.{name}={json.dumps(SHORT)}" for name in ("cosine", "cosine_no_relu")]


def ltrsys(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path) -> RunFolder:
    """A run that has been balanced with both cosine classifiers; tests leave it as it is."""
    run = make_run(tmp_path_factory.mktemp("runs") / "balanced", tiny_shards, backbone="resnet10")
    assert ltrsys("balance", run.path, "--classifiers", ",".join(BOTH), *SETTINGS) == 0
    return run


@pytest.fixture
def again(balanced: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the balanced run, to change."""
    return RunFolder(Path(shutil.copytree(balanced.path, tmp_path / "again")))


def test_each_line_is_that_of_the_classifier_on_its_own_features(balanced: RunFolder) -> None:
    bank, results = FeatureBank.open(balanced.features), read_results(balanced.results)
    assert [line.classifier for line in results.results] == BOTH
    for line in results.results:
        fitted = load_fitted(balanced.classifiers, line.classifier, CPU)
        kind = "no_relu" if line.classifier == "cosine_no_relu" else "last"
        assert fitted.bank == bank.fingerprint_of(kind)
        split = bank.split("test", kind)
        predictions = fitted.classifier.rank(torch.from_numpy(np.array(split.features)), 1)[:, 0].numpy()
        assert line.all == pytest.approx(100 * (predictions == split.labels).mean())
        assert line.tilt.curve.at(0.0)["all"] == line.all
    assert results.line("cosine").all != results.line("cosine_no_relu").all
    with open(balanced.report / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for line in results.results:
        right = sum(float(row[line.classifier]) * int(row["test_images"]) for row in rows)
        assert right / 240 == pytest.approx(line.all, abs=0.01)


@pytest.mark.parametrize("name", BOTH)
def test_evaluate_repeats_its_line_exactly(balanced: RunFolder, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert ltrsys("evaluate", balanced.path, "--classifier", name, "--split", "test", "--json") == 0
    repeated = Results.model_validate_json(capsys.readouterr().out)
    assert repeated.results == [
        read_results(balanced.results).line(name).model_copy(update={"tilt": None, "calibration": None})
    ]


def test_what_is_current_is_kept(again: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before, old = times(again.path), read_results(again.results)
    assert ltrsys("balance", again.path, "--classifiers", ",".join(BOTH), *SETTINGS) == 0
    assert times(again.path) == before
    assert "Cosine, no ReLU" in capsys.readouterr().out
    assert ltrsys("balance", again.path, "--classifiers", "joint", *SETTINGS) == 0
    assert read_results(again.results) == old, "also the line that was not asked for"
    assert ltrsys("balance", again.path, "--classifiers", "ncm", *SETTINGS) == 0
    assert [line.classifier for line in read_results(again.results).results] == ["joint", "ncm", *BOTH[1:]]


def test_without_its_features_a_classifier_is_made_or_evaluated_only_where_it_is_asked_for(
    again: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    line = read_results(again.results).line("cosine_no_relu")
    shutil.rmtree(again.features)
    assert ltrsys("balance", again.path, "--classifiers", "joint", *SETTINGS) == 0
    assert [line.classifier for line in read_results(again.results).results] == ["joint", "cosine"]
    assert not list(again.features.rglob("*no_relu*"))
    capsys.readouterr()
    assert ltrsys("evaluate", again.path, "--classifier", "cosine_no_relu") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "has no features of the kind `no_relu` of the `test` split. Run `ltrsys balance" in error
    assert ltrsys("balance", again.path, "--classifiers", "cosine_no_relu", *SETTINGS) == 0
    assert read_results(again.results).line("cosine_no_relu") == line


def test_a_network_without_a_last_relu_is_refused_before_all_work(
    tmp_path: Path, tiny_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", tiny_shards)
    assert ltrsys("balance", run.path, "--classifiers", "joint,cosine_no_relu,ncm") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cosine_no_relu does not apply to model.backbone=shufflenet_v2_x0_5: " in error
    assert error.endswith("Give --classifiers joint,ncm.\n")
    assert not run.features.exists()


@pytest.mark.distributed
def test_two_ranks_make_the_bank_of_one(balanced: RunFolder, tmp_path: Path, tiny_shards: Path) -> None:
    run = make_run(tmp_path / "run", tiny_shards, backbone="resnet10")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command = [str(Path(sys.executable).parent / "ltrsys"), "balance", str(run.path)]
    result = subprocess.run(
        [*launch, *command, "--classifiers", ",".join(BOTH), *SETTINGS],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    one, two = (FeatureBank.open(folder.features) for folder in (balanced, run))
    for name in ("train", "val", "test"):
        for kind in ("last", "no_relu"):
            np.testing.assert_allclose(
                two.split(name, kind).features, one.split(name, kind).features, rtol=1e-4, atol=1e-5
            )
