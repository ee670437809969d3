"""wandb online, with a server on this machine in the place of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trackers.base import Artifact
from ltrsys.runs.tracking import MetricsLog
from ltrsys.world import World
from tests.runs.trackers.stand_in import StandIn, stand_in_server
from tests.runs.trackers.test_wandb import make_config

pytestmark = pytest.mark.long


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with stand_in_server() as state:
        for name, value in state.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        yield state


def test_a_run_that_goes_on_sends_what_the_server_lacks_and_nothing_twice(server, tmp_path):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "online")
    tracker = MetricsLog(run, config, World(), begins=True)
    for step in range(1, 6):
        tracker.log(step, {"train/loss": 1.0 / step, "val/few": 10.0 * step})
    run_id = tracker.run_ids["wandb"]
    tracker.close()
    del server.history[run_id][3:]  # the process was killed before it had sent all
    server.summary[run_id]["_step"] = 3
    tracker = MetricsLog(run, config, World())
    tracker.rewind()
    tracker.log(6, {"train/loss": 0.1, "val/few": 20.0})
    tracker.close()
    assert [line["_step"] for line in server.history[run_id]] == [1, 2, 3, 4, 5, 6]
    assert server.summary[run_id]["val/few"] == {"max": 50.0, "last": 20.0}


def test_what_was_trained_offline_goes_to_the_server_with_its_balancing(server, tmp_path):
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "offline"), World(), begins=True)
    for step in (1, 2):
        tracker.log(step, {"train/loss": 1.0 / step})
    run_id = tracker.run_ids["wandb"]
    tracker.close()
    tracker = MetricsLog(run, make_config(tmp_path, "online"), World(), name="balance")
    tracker.rewind()
    tracker.log_results({"test/crt/few": 30.0})
    tracker.close()
    lines = server.history[run_id]
    assert [(line["_step"], line.get("train/loss"), line.get("test/crt/few")) for line in lines] == [
        (1, 1.0, None),
        (2, 0.5, None),
        (3, None, 30.0),
    ]


def test_an_artifact_an_alert_and_a_failure_come_to_the_server(server, tmp_path):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "online")
    tracker = MetricsLog(run, config, World(), begins=True)
    run.dataset.write_text("{}")
    tracker.log_artifact(Artifact("letters", "dataset", {"dataset.json": run.dataset}, None))
    tracker.alert("Training was preempted", "after step 3", "warn")
    tracker.note_failure(143)
    run_id = tracker.run_ids["wandb"]
    tracker.close()
    (artifact,) = server.called("CreateArtifact")
    assert (artifact["input"]["artifactCollectionName"], artifact["input"]["artifactTypeName"]) == (
        "letters",
        "dataset",
    )
    (use,) = server.called("UseArtifact")
    assert use["input"]["runName"] == run_id
    (alert,) = server.called("NotifyScriptableRunAlert")
    assert (alert["title"], alert["text"]) == ("Training was preempted", "after step 3")
    assert server.exit_codes[run_id] == 143
