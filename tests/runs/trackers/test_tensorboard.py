import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ltrsys.config.schema import Config
from ltrsys.errors import UsageError
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.tracking import MetricsLog
from ltrsys.world import World


def opened(run: RunFolder, *, tensorboard: bool = True, name: str = "train") -> MetricsLog:
    tracking = {"wandb": "disabled", "tensorboard": tensorboard}
    config = Config.model_validate({"name": "run", "data": {"shards": "shards"}, "tracking": tracking})
    return MetricsLog(run, config, World(), name=name)


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return events


def test_curves_images_and_tables_are_in_the_event_file(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    metrics = opened(run, name="balance")
    metrics.log(10, {"train/loss": 0.5, "val/few": None})
    metrics.log(20, {"train/loss": 0.25})
    picture = tmp_path / "tail.png"
    Image.new("RGB", (4, 3)).save(picture)
    metrics.log_images(20, {"long_tail": picture})
    pictures = [Image.new("RGB", (2, 2)) for _ in range(2)]
    rows = [[pictures[0], "oak", 50.0], [pictures[1], "elm", None]]
    metrics.log_table("per_class", ["image", "class", "accuracy"], rows)
    metrics.alert("The loss is not finite", "step 3: nan", "error")
    metrics.close()

    events = read(run.path / "tensorboard")
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(10, 0.5), (20, 0.25)]
    assert events.Tags()["scalars"] == ["train/loss"]  # nothing to measure is no point of a curve
    (image,) = events.Images("long_tail")
    assert (image.width, image.height) == (4, 3)
    (table,) = events.Tensors("per_class/text_summary")
    assert b"| class | accuracy |" in table.tensor_proto.string_val[0], "pictures are left out"
    assert b"| oak | 50.0 |" in table.tensor_proto.string_val[0]
    (alert,) = events.Tensors("alerts/text_summary")
    assert b"step 3: nan" in alert.tensor_proto.string_val[0]


def test_a_resumed_run_shows_no_step_twice(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    metrics = opened(run)
    for step in range(1, 6):
        metrics.log(step, {"train/loss": 1.0})
    metrics.close()
    metrics = opened(run)
    metrics.rewind(3)
    for step in range(4, 8):
        metrics.log(step, {"train/loss": 2.0})
    metrics.close()
    losses = read(run.path / "tensorboard").Scalars("train/loss")
    assert [(event.step, event.value) for event in losses] == [
        *((step, 1.0) for step in range(1, 4)),
        *((step, 2.0) for step in range(4, 8)),
    ]


def test_a_balancing_stands_in_the_run_of_the_training(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    metrics = opened(run)
    for step in range(1, 4):
        metrics.log(step, {"train/loss": 1.0})
    metrics.close()
    for few in (20.0, 30.0):
        metrics = opened(run, name="balance")
        metrics.rewind()
        metrics.log_results({"test/crt/few": few})
        metrics.close()
    events = read(run.path / "tensorboard")
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert [(event.step, event.value) for event in events.Scalars("test/crt/few")] == [(3, 20.0), (3, 30.0)]


def test_nothing_is_written_unless_asked_for(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    metrics = opened(run, tensorboard=False)
    metrics.log(1, {"train/loss": 1.0})
    metrics.close()
    assert not (run.path / "tensorboard").exists()
    (line,) = run.metrics.read_text().splitlines()
    assert json.loads(line) == {"step": 1, "train/loss": 1.0}


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith(("tensorboard", "torch.utils.tensorboard"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match="pip install tensorboard"):
        opened(RunFolder(tmp_path / "run"))


def test_it_is_not_imported_where_it_is_not_asked_for() -> None:
    code = "import sys; import ltrsys.runs.tracking; from ltrsys.runs.trackers.base import TRACKERS; list(TRACKERS)\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'tensorboard', 'wandb')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
