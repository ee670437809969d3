"""What trackers are told of a training besides its curves: alerts, and what it takes and makes."""

import json
import os
import re
import signal
import time
from typing import Any

import pytest

from ltrsys.config.reading import load_config
from ltrsys.first_stage.trainer import train
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.metrics_file import read_metrics
from ltrsys.runs.tracker_ids import read_tracker_ids
from ltrsys.runs.trackers import wandb_file
from ltrsys.training.supervision.loss_watch import LossNotFinite
from ltrsys.world import World
from tests.first_stage.ranks import train_rank
from tests.trainings import start_processes

pytestmark = [pytest.mark.long, pytest.mark.distributed]


@pytest.fixture(autouse=True)
def _no_settings_of_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


def records(run: RunFolder, kind: str) -> list[Any]:
    (run_id,) = read_tracker_ids(run).values()
    return [
        getattr(record, kind)
        for path in wandb_file.files_of(run.path, run_id)
        for record in wandb_file.records(path)
        if record.WhichOneof("record_type") == kind
    ]


def test_a_loss_that_is_not_finite_is_an_alert_and_the_run_has_failed(write_config):
    path = write_config(train__optimizer={"lr": 1e30, "weight_decay": 0.0}, tracking__wandb="offline")
    config = load_config(path)
    with pytest.raises(LossNotFinite) as caught:
        train(config, World.detect())
    run = RunFolder(config.run_folder)
    (alert,) = records(run, "alert")
    assert (alert.title, alert.text, alert.level) == ("The loss is not finite", str(caught.value), "ERROR")
    assert [record.exit_code for record in records(run, "exit")] == [1]


def test_another_learning_rate_after_that_is_another_run_of_wandb(write_config):
    hot = {"train__optimizer": {"lr": 1e30, "weight_decay": 0.0}, "train__epochs": 1, "tracking__wandb": "offline"}
    config = load_config(write_config(**hot))
    with pytest.raises(LossNotFinite):
        train(config, World.detect())
    run = RunFolder(config.run_folder)
    before = read_tracker_ids(run)
    train(load_config(write_config(train__epochs=1, tracking__wandb="offline")), World.detect())
    assert read_tracker_ids(run) != before
    assert [record.step.num for record in records(run, "history")] == [1, 2, 3]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_is_lost_is_an_alert_of_the_first(write_config, number):
    """Where the other one is only stopped, the first waits for ever: then its watchdog tells, and ends it."""
    path = write_config(train__epochs=200, train__timeout_seconds=12, tracking__wandb="offline")
    run = RunFolder(load_config(path).run_folder)
    first, second = processes = start_processes(train_rank, 2, path)
    try:
        while not read_metrics(run.metrics) and first.is_alive():
            time.sleep(0.01)
        os.kill(second.pid, number)
        first.join(timeout=120)
    finally:
        for process in processes:
            process.kill()
    assert first.exitcode == 1
    (alert,) = records(run, "alert")
    assert (alert.title, alert.level) == ("Training was ended", "ERROR")
    assert "rank 1 on " in alert.text
    assert [record.exit_code for record in records(run, "exit")] == [1]


def test_a_loss_that_is_not_finite_on_another_rank_is_told_by_the_first(write_config):
    path = write_config(
        train__optimizer={"lr": 1e30, "weight_decay": 0.0}, train__timeout_seconds=30, tracking__wandb="offline"
    )
    processes = start_processes(train_rank, 2, path)
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [1, 1]
    (alert,) = records(RunFolder(load_config(path).run_folder), "alert")
    assert re.search(r"step \d+: the loss is (nan|inf|-inf) on rank [01]", alert.text), alert.text


def test_the_model_of_a_run_that_starts_from_another_uses_that_one_s(write_config, trained):
    other = RunFolder(trained())
    path = write_config(train__from_run=str(other.path), train__epochs=1, tracking__wandb="offline")
    train(load_config(path), World.detect())
    run = RunFolder(load_config(path).run_folder)
    artifacts = {record.name: record for record in records(run, "artifact")}
    theirs, ours = f"model-{other.path.name}", f"model-{read_tracker_ids(run)['wandb']}"
    assert artifacts.keys() == {"glyphs", theirs, ours}
    assert [name for name, record in artifacts.items() if record.use_after_commit] == ["glyphs", theirs]
    metadata = json.loads(artifacts[ours].metadata)
    assert metadata["uses"] == ["glyphs", "model"]
    assert metadata["steps"] == 3
    assert metadata["val"].keys() == {"many", "medium", "few", "all", "mean_class_accuracy"}
