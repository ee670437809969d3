"""One run of wandb, of a training that is killed, preempted and goes on, and of two balancings."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltrsys.cli.main import main
from ltrsys.config.reading import load_config
from ltrsys.evaluation.results import read_results
from ltrsys.reporting.predictions import MOST_IMAGES
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.metrics_file import read_metrics
from ltrsys.runs.tracker_ids import read_tracker_ids
from ltrsys.runs.trackers import wandb_file
from tests.runs.trackers.stand_in import StandIn, stand_in_server
from tests.trainings import ROOT, config_writer

pytestmark = pytest.mark.long
STEPS = 12
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")} | {
    "OMP_NUM_THREADS": "1"
}
SMALL = {"balance__crt": {"epochs": 1}, "balance__lws": {"epochs": 1}, "balance__tilt_grid": []}


def end_by(number: int, path: Path, reached: Callable[[RunFolder], bool]) -> tuple[int, str]:
    """Train until the run has come so far, then send the process a signal; return its exit code and what it said."""
    command = [sys.executable, "launchers/train.py", "--config", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    run = RunFolder(load_config(path).run_folder)
    while not reached(run) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=200)
    return process.returncode, errors


def ltrsys(*arguments: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*arguments])
    assert exit_.value.code == 0


def step_of(run: RunFolder) -> int:
    return max((line["step"] for line in read_metrics(run.metrics)), default=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path, one_thread: None) -> RunFolder:
    folder = tmp_path_factory.mktemp("wandb")
    path = config_writer(folder, tiny_shards)(
        "once", train__epochs=4, train__checkpoint_every_steps=1, tracking__wandb="offline", **SMALL
    )
    code, _ = end_by(signal.SIGKILL, path, lambda run: any(run.checkpoints.glob("step-*2.safetensors")))
    assert code == -signal.SIGKILL
    run = RunFolder(load_config(path).run_folder)
    killed_after = step_of(run)
    assert 0 < killed_after < STEPS
    code, errors = end_by(signal.SIGTERM, path, lambda run: step_of(run) > killed_after)
    assert code == 128 + signal.SIGTERM, errors
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - ENVIRONMENT.keys():
            patch.delenv(name)
        ltrsys("train", "--config", str(path))
        ltrsys("balance", str(run.path), "--classifiers", "joint,ncm")
        ltrsys("balance", str(run.path), "--classifiers", "joint,tau")
    return run


def files(run: RunFolder) -> list[Path]:
    (run_id,) = read_tracker_ids(run).values()
    return wandb_file.files_of(run.path, run_id)


def records(run: RunFolder, kind: str) -> list[Any]:
    return [
        getattr(record, kind)
        for path in files(run)
        for record in wandb_file.records(path)
        if record.WhichOneof("record_type") == kind
    ]


def test_every_start_went_on_with_the_same_run(run: RunFolder) -> None:
    empty = list(run.path.rglob("run-*.empty"))  # killed, before wandb wrote anything: `wandb sync` would end there
    assert len(files(run)) + len(empty) == 5
    assert len(list(run.path.rglob("*.wandb"))) == len(files(run)) >= 4
    assert not (run.path / "wandb" / "latest-run").exists(), "`wandb sync RUN/wandb` would send that one twice"


def test_no_step_is_there_twice_and_none_is_missing(run: RunFolder) -> None:
    steps = [record.step.num for record in records(run, "history")]
    assert steps == list(range(1, STEPS + 3)), "those of the training, and two balancings"


def test_the_preemption_was_told_and_the_run_shown_as_failed_then(run: RunFolder) -> None:
    (alert,) = records(run, "alert")
    assert (alert.title, alert.level) == ("Training was preempted", "WARN")
    assert "stopped by a signal after step" in alert.text
    assert [record.exit_code for record in records(run, "exit")] == [128 + signal.SIGTERM, 0, 0, 0]


def test_the_last_file_s_summary_is_that_of_the_whole_run(run: RunFolder) -> None:
    for path in files(run)[:-1]:
        path.rename(path.with_suffix(".aside"))
    try:
        summary = wandb_file.last_summary(run.path, next(iter(read_tracker_ids(run).values())))
    finally:
        for path in run.path.rglob("*.aside"):
            path.rename(path.with_suffix(".wandb"))
    lines = read_metrics(run.metrics)
    few = [line["val/few"] for line in lines if "val/few" in line]
    assert summary["val/few"] == {"max": max(few), "last": few[-1]}
    assert summary["train/loss"] == [line["train/loss"] for line in lines if "train/loss" in line][-1]
    for line in read_results(run.results).results:
        assert summary[f"test/{line.classifier}/few"] == line.few
    assert summary["balance/number"] == 2
    assert summary["balance/predictions"]["_type"] == "table-file"


def test_the_artifacts_say_what_was_made_of_what(run: RunFolder) -> None:
    run_id = read_tracker_ids(run)["wandb"]
    artifacts = {record.name: record for record in records(run, "artifact")}
    own = {name: record for name, record in artifacts.items() if not name.startswith("run-")}
    assert {name: record.type for name, record in own.items()} == {
        "glyphs": "dataset",
        f"model-{run_id}": "model",
        f"classifiers-{run_id}": "classifiers",
        f"results-{run_id}": "results",
        f"report-{run_id}": "report",
    }
    assert [name for name, record in own.items() if record.use_after_commit] == ["glyphs"]
    uses = {name.removesuffix(f"-{run_id}"): json.loads(record.metadata)["uses"] for name, record in own.items()}
    assert uses == {
        "glyphs": [], "model": ["glyphs"], "classifiers": ["model"], "results": ["classifiers"], "report": ["results"],
    }  # fmt: skip
    held = {name.removesuffix(f"-{run_id}"): {one.path for one in own[name].manifest.contents} for name in own}
    assert held["model"] == {"model.safetensors", "config.yaml"}
    assert held["results"] == {"results.json", "per_class.csv"}
    assert held["classifiers"] == {"joint.safetensors", "ncm.safetensors", "tau.safetensors"}
    assert {"accuracy_by_split.png", "per_class.csv"} <= held["report"]
    results = next(one for one in own[f"results-{run_id}"].manifest.contents if one.path == "results.json")
    assert Path(results.local_path).read_bytes() == run.results.read_bytes()


def test_the_table_of_predictions_has_pictures_and_every_classifier(run: RunFolder) -> None:
    *_, record = (record for record in records(run, "artifact") if "predictions" in record.name)
    places = {one.path: Path(one.local_path) for one in record.manifest.contents}
    table = json.loads(places["balance/predictions.table.json"].read_text())
    assert table["columns"] == [
        "image", "number", "class", "shot", "training images", "right",
        "joint", "joint score", "ncm", "ncm score", "tau", "tau score",
    ]  # fmt: skip
    assert len(table["data"]) == MOST_IMAGES
    for row in table["data"]:
        assert places[row[0]["path"]].read_bytes().startswith(b"\xff\xd8"), "a JPEG"


@pytest.fixture(scope="module")
def synced(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    """Send the run by `wandb sync` to a server that keeps it."""
    home = tmp_path_factory.mktemp("home")  # where wandb writes down what it does
    command = [str(Path(sys.executable).with_name("wandb")), "sync", str(run.path / "wandb")]
    with stand_in_server() as server:
        environment = ENVIRONMENT | server.environment(home)
        done = subprocess.run(
            command, cwd=home, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
    return server


def test_wandb_sync_makes_one_run_of_it(run: RunFolder, synced: StandIn) -> None:
    run_id = read_tracker_ids(run)["wandb"]
    assert synced.history.keys() == {run_id}
    assert [line["_step"] for line in synced.history[run_id]] == list(range(1, STEPS + 3))
    losses = [line["train/loss"] for line in read_metrics(run.metrics) if "train/loss" in line]
    assert [line["train/loss"] for line in synced.history[run_id] if "train/loss" in line] == losses
    summary = synced.summary[run_id]
    assert {"train/loss", "val/few", "test/joint/few", "test/ncm/few", "test/tau/few"} <= summary.keys()
    assert synced.exit_codes == {run_id: 0}


def test_wandb_sync_sends_the_alert_the_artifacts_and_the_dataset_as_an_input(run: RunFolder, synced: StandIn) -> None:
    (alert,) = {json.dumps(variables) for variables in synced.called("NotifyScriptableRunAlert")}
    assert "Training was preempted" in alert
    types = {variables["input"]["artifactTypeName"] for variables in synced.called("CreateArtifact")}
    assert {"dataset", "model", "classifiers", "results", "report", "run_table"} == types
    used = synced.called("UseArtifact")
    assert {variables["input"]["runName"] for variables in used} == {read_tracker_ids(run)["wandb"]}
