import json
import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from ltrsys.config.schema import Config
from ltrsys.errors import UsageError
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.tracker_ids import read_tracker_ids
from ltrsys.runs.trackers import wandb_file
from ltrsys.runs.trackers.base import Artifact
from ltrsys.runs.trackers.wandb import group_of
from ltrsys.runs.tracking import MetricsLog
from ltrsys.world import World

pytestmark = pytest.mark.long  # each begins wandb's own process


def make_config(tmp_path: Path, wandb: str, name: str = "run", **tracking: Any) -> Config:
    return Config.model_validate(
        {
            "name": name,
            "runs": str(tmp_path),
            "data": {"shards": "shards"},
            "tracking": {"wandb": wandb, **tracking},
        }
    )


def records_of(run: RunFolder, kind: str) -> list[Any]:
    """Return all records of a kind that the attempts of a run have written, in their order."""
    (run_id,) = read_tracker_ids(run).values()
    return [
        getattr(record, kind)
        for path in wandb_file.files_of(run.path, run_id)
        for record in wandb_file.records(path)
        if record.WhichOneof("record_type") == kind
    ]


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
        tracker.log(step, {"train/loss": 2.0 / step, "perf/images_per_second": 99.0, "data/stall_share": 0.01})
    tracker.log(20, {"val/many": 90.0, "val/medium": 80.0, "val/few": None, "val/all": 75.5})
    picture = tmp_path / "tail.png"
    Image.new("RGB", (4, 4)).save(picture)
    tracker.log_images(20, {"long_tail": picture})
    tracker.log_table("classes", ["class", "accuracy"], [["oak", 50.0], ["elm", None]])
    tracker.close()

    records = read_wandb(run.path)
    history = wandb_history(records)
    assert history["train/loss"] == [0.2, 0.1]
    assert history["step"] == [10, 20]
    assert history["perf/images_per_second"] == [99.0, 99.0]
    assert history["data/stall_share"] == [0.01, 0.01]
    assert (history["val/many"], history["val/all"]) == ([90.0], [75.5])
    assert "val/few" not in history  # nothing to measure is no point of a curve
    assert any(key.startswith("long_tail") for key in history)
    assert any(key.startswith("classes") for key in history)
    (table,) = run.path.rglob("*.table.json")
    assert json.loads(table.read_text())["data"] == [["oak", 50.0], ["elm", None]]
    assert list(run.path.rglob("long_tail*.png"))


def test_when_a_run_is_closed_wandb_has_written_all_of_it(tmp_path):
    """Its process has ended; before, `finish` came back too early now and then."""
    tracker = MetricsLog(RunFolder(tmp_path / "run"), make_config(tmp_path, "offline"), World())
    tracker.log(1, {"train/loss": 1.0})
    assert len(wandb_processes()) == 1
    tracker.close()
    assert wandb_processes() == []


def test_an_offline_run_keeps_to_the_run_folder_and_is_silent(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    tracker = MetricsLog(RunFolder(tmp_path / "run"), make_config(tmp_path, "offline"), World())
    tracker.log(1, {"train/loss": 1.0})
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
        tracker.log(step, {"train/loss": 1.0 / step})
    run_ids = tracker.run_ids
    tracker.close()
    tracker = MetricsLog(run, config, World(), run_ids=run_ids)
    tracker.rewind(3)
    for step in range(4, 9):
        tracker.log(step, {"train/loss": 1.0 / step})
    assert tracker.run_ids == run_ids
    tracker.close()
    assert steps_sent(run) == list(range(1, 9))


def test_what_wandb_lost_with_its_process_it_gets_when_the_run_goes_on(tmp_path, caplog):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "offline")
    tracker = MetricsLog(run, config, World())
    tracker.log(1, {"train/loss": 1.0})
    run_ids = tracker.run_ids
    (service,) = wandb_processes()
    service.kill()
    service.wait()
    for step in range(2, 6):
        tracker.log(step, {"train/loss": 1.0 / step})
    tracker.close()
    assert "wandb failed" in caplog.text
    assert len(run.metrics.read_text().splitlines()) == 5
    tracker = MetricsLog(run, config, World(), run_ids=run_ids)
    tracker.rewind(4)
    tracker.log(5, {"train/loss": 0.2})
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


def test_one_run_of_wandb_is_that_of_the_training_and_of_every_balancing(tmp_path):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "offline")
    tracker = MetricsLog(run, config, World(), begins=True)
    for step in range(1, 4):
        tracker.log(step, {"train/loss": 1.0 / step})
    tracker.close()
    for few in (20.0, 30.0):
        tracker = MetricsLog(run, config, World(), name="balance")
        tracker.rewind()
        assert tracker.log_results({"test/crt/few": few}) == 3
        tracker.close()
    assert steps_sent(run) == [1, 2, 3, 4, 5], "balancings follow the last step"
    history = [
        wandb_history([record]) for path in sorted(run.path.rglob("*.wandb")) for record in wandb_file.records(path)
    ]
    results = [line for line in history if "test/crt/few" in line]
    assert [(line["step"], line["balance/number"], line["test/crt/few"]) for line in results] == [
        ([3], [1], [20.0]),
        ([3], [2], [30.0]),
    ]
    runs = records_of(run, "run")
    assert {record.run_id for record in runs} == set(read_tracker_ids(run).values())
    assert {(record.display_name, record.run_group) for record in runs} == {("run", "run")}
    assert {record.job_type for record in runs} == {"train", ""}, "what goes on leaves it as it is"
    axes = {metric.name: metric.step_metric for metric in records_of(run, "metric")}
    assert (axes["train/loss"], axes["val/few"], axes["test/crt/few"]) == ("step", "step", "balance/number")


def test_the_summary_has_best_and_last_of_the_whole_run_though_it_was_stopped_between(tmp_path):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "offline")
    for begins, steps in ((True, {1: 50.0, 2: 70.0}), (False, {3: 60.0, 4: 65.0})):
        tracker = MetricsLog(run, config, World(), begins=begins)
        tracker.rewind()
        for step, few in steps.items():
            tracker.log(step, {"train/loss": 1.0 / step, "val/few": few})
        tracker.close()
    (run_id,) = read_tracker_ids(run).values()
    first, last = wandb_file.files_of(run.path, run_id)
    summary = wandb_file.last_summary(run.path, run_id)
    assert summary["val/few"] == {"max": 70.0, "last": 65.0}
    first.unlink()  # on `wandb sync`, the last file's summary takes the place of the first's
    assert wandb_file.last_summary(run.path, run_id) == summary
    assert last.exists()


def test_the_summary_of_results_outlives_those_of_a_later_balancing(tmp_path):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "offline")
    for results in ({"test/crt/few": 20.0, "test/ncm/few": 25.0}, {"test/tau/few": 30.0}):
        tracker = MetricsLog(run, config, World(), name="balance")
        tracker.rewind()
        tracker.log_results(results)
        tracker.close()
    (run_id,) = read_tracker_ids(run).values()
    for path in wandb_file.files_of(run.path, run_id)[:-1]:
        path.unlink()
    summary = wandb_file.last_summary(run.path, run_id)
    assert (summary["test/crt/few"], summary["test/ncm/few"], summary["test/tau/few"]) == (20.0, 25.0, 30.0)


def test_a_training_that_begins_anew_is_another_run(tmp_path):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "offline")
    ids = []
    for _ in range(2):
        tracker = MetricsLog(run, config, World(), begins=True)
        ids.append(tracker.run_ids)
        tracker.close()
    assert ids[0] != ids[1]
    assert read_tracker_ids(run) == ids[1]


def test_a_damaged_record_of_ids_is_a_warning(tmp_path, caplog):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.trackers.write_text("{")
    tracker = MetricsLog(run, make_config(tmp_path, "offline"), World(), name="balance")
    tracker.close()
    assert f"{run.trackers}: damaged." in caplog.text
    assert read_tracker_ids(run).keys() == {"wandb"}


def test_what_the_environment_says_of_a_run_goes_before_the_config(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_RUN_ID", "fromenv1")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "online")
    MetricsLog(run, config, World(), begins=True).close()
    monkeypatch.setenv("WANDB_RUN_ID", "another1")  # such as that of the next job
    MetricsLog(run, config, World(), name="balance").close()
    assert [(record.run_id, record.project) for record in records_of(run, "run")] == [("fromenv1", "theirs")] * 2
    monkeypatch.setenv("WANDB_MODE", "disabled")
    MetricsLog(RunFolder(tmp_path / "off"), make_config(tmp_path, "online", "off"), World(), begins=True).close()
    assert not (tmp_path / "off" / "wandb").exists()


def test_a_sweep_s_agent_says_which_run_it_is_also_when_it_is_begun_again(tmp_path, monkeypatch, capfd):
    for name, value in {"SWEEP_ID": "sweep123", "RUN_ID": "fromagnt", "PROJECT": "theirs", "ENTITY": "team"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "offline")
    tracker = MetricsLog(run, config, World(), begins=True)
    tracker.log(1, {"train/loss": 1.0})
    tracker.close()
    tracker = MetricsLog(run, config, World())
    tracker.rewind()
    tracker.log(2, {"train/loss": 0.5})
    tracker.close()
    assert steps_sent(run) == [1, 2]
    said = {(record.run_id, record.project, record.entity, record.sweep_id) for record in records_of(run, "run")}
    assert said == {("fromagnt", "theirs", "team", "sweep123")}
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "group"),
    [("glyphs", "glyphs"), ("letters-crt-seed12", "letters-crt"), ("seed", "seed"), ("a_seed_1", "a")],
)
def test_seeds_are_a_group(name, group):
    assert group_of(name) == group


def test_an_id_that_wandb_does_not_take_is_a_mistake_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "no/id")
    with pytest.raises(UsageError, match=r"tracking\.wandb=offline: .* Use offline or disabled otherwise"):
        MetricsLog(RunFolder(tmp_path / "run"), make_config(tmp_path, "offline"), World(), begins=True)
    assert "WANDB_DATA_DIR" not in os.environ


def artifacts_of(run: RunFolder) -> dict[str, Any]:
    return {record.name: record for record in records_of(run, "artifact")}


def contents(record: Any) -> dict[str, str]:
    return {entry.path: entry.local_path for entry in record.manifest.contents}


def test_artifacts_are_the_run_s_outputs_but_for_what_it_takes(tmp_path):
    run, config = RunFolder(tmp_path / "run"), make_config(tmp_path, "offline")
    tracker = MetricsLog(run, config, World(), begins=True)
    run.dataset.write_text('{"name": 1}')
    run.model.write_bytes(b"weights")
    other = RunFolder(tmp_path / "other")
    other.path.mkdir()
    other.model.write_bytes(b"others")
    other.trackers.write_text('{"run_ids": {"wandb": "theirid0"}}')
    tracker.log_artifact(Artifact("my letters/2", "dataset", {"dataset.json": run.dataset}, None, {"classes": 12}))
    tracker.log_artifact(Artifact("model", "model", {"model.safetensors": other.model}, other.path))
    tracker.log_artifact(Artifact("model", "model", {"model.safetensors": run.model}, run.path, {}, ["my letters/2"]))
    run.model.unlink()
    run.model.write_bytes(b"retrained")  # as ltrsys writes: another file in its place
    run_id = tracker.run_ids["wandb"]
    tracker.close()

    records = artifacts_of(run)
    assert records.keys() == {"my-letters-2", "model-theirid0", f"model-{run_id}"}
    used = {name for name, record in records.items() if record.use_after_commit}
    assert used == {"my-letters-2", "model-theirid0"}
    model = records[f"model-{run_id}"]
    assert json.loads(model.metadata) == {"uses": ["my letters/2"]}
    assert Path(contents(model)["model.safetensors"]).read_bytes() == b"weights", "it stays until it is sent"
    for record in records.values():
        for place in contents(record).values():
            assert Path(place).is_relative_to(run.path), "an offline run is all in its folder"


def test_weights_may_be_given_by_place_and_checksum_alone_or_not_at_all(tmp_path):
    for files in ("references", "none"):
        run = RunFolder(tmp_path / files)
        tracker = MetricsLog(run, make_config(tmp_path, "offline", files, artifacts=files), World(), begins=True)
        run.model.write_bytes(b"weights")
        run.config_file.write_text("name: run")
        paths = {"model.safetensors": run.model, "config.yaml": run.config_file}
        tracker.log_artifact(Artifact("model", "model", paths, run.path))
        tracker.close()
        records = artifacts_of(run)
        if files == "none":
            assert records == {}
            continue
        (record,) = records.values()
        places = {entry.path: (entry.ref, bool(entry.local_path)) for entry in record.manifest.contents}
        assert places["model.safetensors"] == (run.model.as_uri(), False)
        assert places["config.yaml"][1]


def test_a_long_name_of_an_artifact_is_cut_to_what_wandb_takes(tmp_path):
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "offline"), World(), begins=True)
    run.dataset.write_text("{}")
    tracker.log_artifact(Artifact("../" + "é" * 300, "dataset", {"dataset.json": run.dataset}, None))
    tracker.close()
    (name,) = artifacts_of(run)
    assert len(name) == 128


def test_pictures_of_a_table_are_kept_with_it(tmp_path):
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "offline"), World(), name="balance")
    tracker.log_results({"test/crt/few": 1.0})
    rows = [[Image.new("RGB", (4, 4), color), color] for color in ("red", "blue")]
    tracker.log_table("balance/predictions", ["image", "class"], rows)
    tracker.close()
    (record,) = (record for name, record in artifacts_of(run).items() if "predictions" in name)
    data = json.loads(Path(contents(record)["balance/predictions.table.json"]).read_text())["data"]
    assert [row[1] for row in data] == ["red", "blue"]
    assert [row[0]["_type"] for row in data] == ["image-file"] * 2
    pictures = [place for path, place in contents(record).items() if path.endswith(".jpg")]
    assert len(pictures) == 2
    assert all(Path(place).is_relative_to(run.path) and Path(place).exists() for place in pictures)
    assert "WANDB_DATA_DIR" not in os.environ, "the next run of this process has its own folder"


def test_an_alert_and_a_failure_are_told(tmp_path):
    run = RunFolder(tmp_path / "run")
    tracker = MetricsLog(run, make_config(tmp_path, "offline"), World(), begins=True)
    tracker.alert("The loss is not finite" * 5, "step 3: nan", "error")
    tracker.note_failure(143)
    tracker.close()
    (alert,) = records_of(run, "alert")
    assert (alert.level, alert.text) == ("ERROR", "step 3: nan")
    assert len(alert.title) < 64
    (exit_,) = records_of(run, "exit")
    assert exit_.exit_code == 143
