import json
from pathlib import Path

import psutil
from PIL import Image

from ltrsys.config.schema import Config
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trackers import wandb_file
from ltrsys.runs.tracking import MetricsLog
from ltrsys.world import World


def make_config(tmp_path: Path, wandb: str) -> Config:
    return Config.model_validate(
        {"name": "run", "runs": str(tmp_path), "data": {"shards": "shards"}, "tracking": {"wandb": wandb}}
    )


def read_wandb(folder: Path) -> list:
    """Read the records of the only offline run under `folder`."""
    (path,) = folder.rglob("*.wandb")
    return list(wandb_file.records(path))


def wandb_processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "wandb" in " ".join(child.cmdline())]


def wandb_history(records: list) -> dict[str, list]:
    history: dict[str, list] = {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            for item in record.history.item:
                key = item.key or ".".join(item.nested_key)
                history.setdefault(key, []).append(json.loads(item.value_json))
    return history


def test_an_offline_run_holds_what_was_logged(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "offline"), World())
    for step in (10, 20):
        tracker.log(step, {"loss": 2.0 / step, "lr": 0.1, "images_per_second": 99.0, "data_stall_share": 0.01})
    tracker.log(20, {"val_many": 90.0, "val_medium": 80.0, "val_few": None, "val_all": 75.5})
    picture = tmp_path / "tail.png"
    Image.new("RGB", (4, 4)).save(picture)
    tracker.log_images(20, {"long_tail": picture})
    tracker.log_table("classes", ["class", "accuracy"], [["oak", 50.0], ["elm", None]])
    tracker.close()

    records = read_wandb(run.path)
    history = wandb_history(records)
    assert history["loss"] == [0.2, 0.1]
    assert history["lr"] == [0.1, 0.1]
    assert history["images_per_second"] == [99.0, 99.0]
    assert history["data_stall_share"] == [0.01, 0.01]
    assert (history["val_many"], history["val_all"]) == ([90.0], [75.5])
    assert "val_few" not in history  # nothing to measure is no point of a curve
    assert any(key.startswith("long_tail") for key in history)
    assert any(key.startswith("classes") for key in history)
    (table,) = run.path.rglob("*.table.json")
    assert json.loads(table.read_text())["data"] == [["oak", 50.0], ["elm", None]]
    assert list(run.path.rglob("long_tail*.png"))


def test_when_a_run_is_closed_wandb_has_written_all_of_it(tmp_path):
    """Its process has ended; before, `finish` came back too early now and then."""
    tracker = MetricsLog(RunFolder(tmp_path / "run"), make_config(tmp_path, "offline"), World())
    tracker.log(1, {"loss": 1.0})
    assert len(wandb_processes()) == 1
    tracker.close()
    assert wandb_processes() == []


def test_an_offline_run_keeps_to_the_run_folder_and_is_silent(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    tracker = MetricsLog(RunFolder(tmp_path / "run"), make_config(tmp_path, "offline"), World())
    tracker.log(1, {"loss": 1.0})
    tracker.close()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def steps_sent(run: RunFolder) -> list[int]:
    paths = sorted(run.path.rglob("*.wandb"), key=lambda path: path.stat().st_mtime)
    return [
        record.history.step.num
        for path in paths
        for record in wandb_file.records(path)
        if record.WhichOneof("record_type") == "history"
    ]


def test_a_resumed_run_goes_on_in_wandb_without_a_step_twice(tmp_path):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "offline")
    tracker = MetricsLog(run, config, World())
    for step in range(1, 6):
        tracker.log(step, {"loss": 1.0 / step})
    run_ids = tracker.run_ids
    tracker.close()
    tracker = MetricsLog(run, config, World(), run_ids=run_ids)
    tracker.rewind(3)
    for step in range(4, 9):
        tracker.log(step, {"loss": 1.0 / step})
    assert tracker.run_ids == run_ids
    tracker.close()
    assert steps_sent(run) == list(range(1, 9))


def test_what_wandb_lost_with_its_process_it_gets_when_the_run_goes_on(tmp_path, caplog):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "offline")
    tracker = MetricsLog(run, config, World())
    tracker.log(1, {"loss": 1.0})
    run_ids = tracker.run_ids
    (service,) = wandb_processes()
    service.kill()
    service.wait()
    for step in range(2, 6):
        tracker.log(step, {"loss": 1.0 / step})
    tracker.close()
    assert "wandb failed" in caplog.text
    assert len(run.metrics.read_text().splitlines()) == 5
    tracker = MetricsLog(run, config, World(), run_ids=run_ids)
    tracker.rewind(4)
    tracker.log(5, {"loss": 0.2})
    tracker.close()
    assert steps_sent(run) == [1, 2, 3, 4, 5]


def test_wandb_is_not_imported_where_it_is_disabled(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from ltrsys.config.schema import Config\n"
        "from ltrsys.world import World\n"
        "from ltrsys.runs.folder import RunFolder; from ltrsys.runs.tracking import MetricsLog\n"
        "config = Config.model_validate({'name': 'run', 'data': {'shards': 's'}, 'tracking': {'wandb': 'disabled'}})\n"
        f"MetricsLog(RunFolder(Path({str(tmp_path)!r})), config, World()).close()\n"
        "sys.exit('wandb' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
