import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from ltrsys.config.schema import Config
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trackers.base import TRACKERS, Artifact, TrackedJob, Tracker
from ltrsys.runs.tracking import MetricsLog
from ltrsys.world import World


def make_config(tmp_path: Path, wandb: str) -> Config:
    return Config.model_validate(
        {"name": "run", "runs": str(tmp_path), "data": {"shards": "shards"}, "tracking": {"wandb": wandb}}
    )


def test_metrics_are_on_disk_line_by_line(tmp_path):
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "disabled"), World())
    for step in range(3):
        tracker.log(step, {"train/loss": 1.0, "epoch": step / 2})
        lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
        assert lines[-1] == {"step": step, "train/loss": 1.0, "epoch": step / 2}
    tracker.close()


def test_a_run_that_is_opened_again_appends(tmp_path):
    run = RunFolder(tmp_path / "run")
    for step in (1, 2):
        tracker = MetricsLog(run, make_config(tmp_path, "disabled"), World())
        tracker.log(step, {"train/loss": 1.0})
        tracker.close()
    assert len(run.metrics.read_text().splitlines()) == 2


def test_what_is_not_finite_is_null_and_the_file_stays_json(tmp_path):
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "disabled"), World())
    tracker.log(1, {"train/loss": math.nan, "train/learning_rate": math.inf, "val/few": None})
    tracker.close()
    line = json.loads(run.metrics.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert line == {"step": 1, "train/loss": None, "train/learning_rate": None, "val/few": None}


def test_rewinding_drops_later_steps_and_a_half_written_line(tmp_path):
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "disabled"), World())
    for step in range(1, 6):
        tracker.log(step, {"train/loss": 1.0})
    tracker.close()
    with run.metrics.open("a") as file:
        file.write('{"step": 6, "lo')
    tracker = MetricsLog(run, make_config(tmp_path, "disabled"), World())
    tracker.rewind(3)
    tracker.log(4, {"train/loss": 2.0})
    tracker.close()
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["train/loss"] == 2.0


def test_other_ranks_write_nothing(tmp_path):
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "offline"), World(rank=1, world_size=2))
    tracker.log(1, {"train/loss": 1.0})
    tracker.rewind(0)
    tracker.log_table("classes", ["class"], [["oak"]])
    tracker.close()
    assert not run.path.exists()


class Listening(Tracker):
    """Keeps what it is told."""

    name = "listening"
    summary = "for tests"
    told: ClassVar[list[tuple[object, ...]]] = []

    @classmethod
    def open(cls, job: TrackedJob, setting: object) -> "Listening":
        cls.told = [("open", job.job, job.run_id)]
        return cls()

    @property
    def run_id(self) -> str:
        return "mine"

    def log(self, step: int, values: Mapping[str, float | int]) -> None:
        self.told.append((step, dict(values)))


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> type[Listening]:
    list(TRACKERS)  # load what comes with ltrsys
    monkeypatch.setattr(TRACKERS, "_methods", {**TRACKERS._methods, "listening": Listening})
    return Listening


def test_whatever_goes_on_with_a_run_hands_over_all_that_was_logged(tmp_path, listening):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "disabled")
    run.path.mkdir()
    run.metrics.write_text('{"step": 2, "loss": 0.5}\n{"step": 2, "val_few": 10.0}\n{"step": 0, "test/ncm/few": 5.0}\n')
    tracker = MetricsLog(run, config, World(), name="balance")
    tracker.rewind()
    assert tracker.log_results({"test/ncm/few": 7.0, "test/crt/few": None}) == 2
    tracker.close()
    assert listening.told == [
        ("open", "balance", None),
        (2, {"train/loss": 0.5}),
        (2, {"val/few": 10.0}),
        (2, {"test/ncm/few": 5.0, "balance/number": 1}),
        (2, {"test/ncm/few": 7.0, "balance/number": 2}),
    ]
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 2, 2, 2], "also the file has the names of today"
    assert lines[0] == {"step": 2, "train/loss": 0.5}


def test_the_id_of_a_tracker_is_kept_in_the_run_folder(tmp_path, listening):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "disabled")
    MetricsLog(run, config, World(), run_ids={"listening": "of the checkpoint"}).close()
    assert listening.told == [("open", "train", "of the checkpoint")], "a run of 0.2.0"
    assert json.loads(run.trackers.read_text()) == {"run_ids": {"listening": "mine"}}
    MetricsLog(run, config, World(), run_ids={"listening": "of the checkpoint"}, name="balance").close()
    assert listening.told == [("open", "balance", "mine")]
    MetricsLog(run, config, World(), begins=True).close()
    assert listening.told == [("open", "train", None)]


def test_a_tracker_that_fails_is_left_out_whatever_it_is_told(tmp_path, listening, monkeypatch, caplog):
    def fail(*arguments: object) -> None:
        raise RuntimeError("no\nroom")

    run = RunFolder(tmp_path / "run")
    artifact = Artifact("model", "model", {}, run.path)
    calls = {
        "log_artifact": lambda tracker: tracker.log_artifact(artifact),
        "alert": lambda tracker: tracker.alert("a", "b", "warn"),
        "note_failure": lambda tracker: tracker.note_failure(1),
        "log_table": lambda tracker: tracker.log_table("a", ["b"], [["c"]]),
        "close": lambda tracker: tracker.close(),
    }
    for name, call in calls.items():
        caplog.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Listening, name, fail)
            tracker = MetricsLog(run, make_config(tmp_path, "disabled"), World())
            call(tracker)
            assert "listening failed (RuntimeError: no room). Nothing more is sent" in caplog.text
            assert not tracker.tracked
            tracker.log(1, {"train/loss": 1.0})
            tracker.close()
