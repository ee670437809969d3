"""`ltrsys balance --classifiers all`: every classifier that applies, from shards to the table, and its predictions."""

import csv
import shutil
from pathlib import Path

import pytest

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.cli.main import main
from ltrsys.evaluation.results import read_results
from ltrsys.runs.folder import RunFolder
from tests.classifiers.runs import make_run, without_splits

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]

SHORT = [
    *(f"balance.{name}.epochs=1" for name in ("linear", "crt", "balanced_softmax", "weight_balancing", "disalign")),
    *(f"balance.{name}.epochs=1" for name in ("lws", "mlp", "cosine", "crt_memory", "fslwf")),
    "balance.mlp.hidden=32",
    "balance.grids={weight_balancing: {max_norm: [0.5, 1.0]}, crt: {lr: [0.2, 0.05]}, mlp: {hidden: [32]}}",
    "balance.fslwf.episodes=1",
    "balance.fslwf.episode_novel=2",
]
LEFT_OUT = "cosine_no_relu"
"""The network is no residual one."""


def ltrsys(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path) -> RunFolder:
    run = make_run(tmp_path_factory.mktemp("runs") / "everything", tiny_shards)
    assert ltrsys("balance", run.path, *SHORT, "--classifiers", "all") == 0
    return run


def test_the_table_has_every_classifier_that_applies(everything: RunFolder) -> None:
    results = read_results(everything.results)
    assert [line.classifier for line in results.results] == [n for n in CLASSIFIERS.names() if n != LEFT_OUT]
    for line in results.results:
        assert line.complete
        assert line.tilt is not None
        assert line.calibration is not None
    chosen = {line.classifier: line.params["chosen_on"] for line in results.results if "chosen" in line.params}
    assert chosen == {"weight_balancing": "val"}
    assert {"weight_norms.png", "trade_off.png", "calibration.png"} <= {
        path.name for path in everything.report.iterdir()
    }


def test_what_is_there_is_not_fitted_again(everything: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    before = {path: path.stat().st_mtime_ns for path in everything.path.rglob("*") if path.is_file()}
    assert ltrsys("balance", everything.path, *SHORT, "--classifiers", "all") == 0
    told = [one for one in caplog.messages if "left out of all classifiers" in one]
    assert len(told) == 1
    assert "cosine_no_relu does not apply to model.backbone=shufflenet_v2_x0_5" in told[0]
    assert {path: path.stat().st_mtime_ns for path in everything.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("classifier", ["knn", "ensemble", "lda", "disalign"])
def test_photographs_are_named_by_it(everything: RunFolder, tiny_shards: Path, tmp_path: Path, classifier: str) -> None:
    out = tmp_path / "named.csv"
    arguments = ["--classifier", classifier, "--top", 1, "--out", out, "--device", "cpu"]
    assert ltrsys("predict", everything.path, *sorted((tiny_shards / "test" / "shards").iterdir()), *arguments) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == read_results(everything.results).images["all"]


def test_settings_are_chosen_and_told(everything: RunFolder, tmp_path: Path, capsys) -> None:
    run = RunFolder(Path(shutil.copytree(everything.path, tmp_path / "again")))
    asked = ["--classifiers", "crt,knn,lda", "balance.select=true"]
    assert ltrsys("balance", run.path, *SHORT, *asked) == 0
    lines = {line.classifier: line for line in read_results(run.results).results}
    assert {"lr"} == lines["crt"].params["chosen"].keys()
    assert lines["knn"].params["chosen"].keys() == {"k", "gamma"}
    assert lines["lda"].selected_on == "val"
    printed = " ".join(capsys.readouterr().out.split())
    assert "chosen on val" in printed
    assert ltrsys("evaluate", run.path, *SHORT, *asked[2:], "--classifier", "knn", "--json") == 0


def test_without_val_everything_comes_from_train(tmp_path: Path, tiny_shards: Path) -> None:
    run = make_run(tmp_path / "run", without_splits(tiny_shards, tmp_path / "shards", "val"))
    asked = ["--classifiers", "knn,ensemble,crt", "balance.select=true"]
    assert ltrsys("balance", run.path, *SHORT, *asked) == 0
    lines = {line.classifier: line for line in read_results(run.results).results}
    assert lines["knn"].params["chosen_on"] == "train"
    assert lines["knn"].calibration.fitted_on == "train by 5-fold cross-validation"
    assert lines["ensemble"].calibration.fitted_on == "a fifth of train, held out"
