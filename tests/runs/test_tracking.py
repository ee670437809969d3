import json
import math
from pathlib import Path

import pytest

from ltrsys.config.schema import Config
from ltrsys.runs.folder import RunFolder
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
        tracker.log(step, {"loss": 1.0, "epoch": step / 2})
        lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
        assert lines[-1] == {"step": step, "loss": 1.0, "epoch": step / 2}
    tracker.close()


def test_a_run_that_is_opened_again_appends(tmp_path):
    run = RunFolder(tmp_path / "run")
    for step in (1, 2):
        tracker = MetricsLog(run, make_config(tmp_path, "disabled"), World())
        tracker.log(step, {"loss": 1.0})
        tracker.close()
    assert len(run.metrics.read_text().splitlines()) == 2


def test_what_is_not_finite_is_null_and_the_file_stays_json(tmp_path):
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "disabled"), World())
    tracker.log(1, {"loss": math.nan, "lr": math.inf, "val_few": None})
    tracker.close()
    line = json.loads(run.metrics.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert line == {"step": 1, "loss": None, "lr": None, "val_few": None}


def test_rewinding_drops_later_steps_and_a_half_written_line(tmp_path):
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "disabled"), World())
    for step in range(1, 6):
        tracker.log(step, {"loss": 1.0})
    tracker.close()
    with run.metrics.open("a") as file:
        file.write('{"step": 6, "lo')
    tracker = MetricsLog(run, make_config(tmp_path, "disabled"), World())
    tracker.rewind(3)
    tracker.log(4, {"loss": 2.0})
    tracker.close()
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] == 2.0


def test_other_ranks_write_nothing(tmp_path):
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "offline"), World(rank=1, world_size=2))
    tracker.log(1, {"loss": 1.0})
    tracker.rewind(0)
    tracker.log_table("classes", ["class"], [["oak"]])
    tracker.close()
    assert not run.path.exists()
