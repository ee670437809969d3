"""`configs/sweeps`: what `wandb agent` makes of them, and that `launchers/train.py` takes it as it is."""

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from ltrsys.config.reading import load_config
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.metric_names import METRICS
from ltrsys.runs.tracker_ids import read_tracker_ids
from tests.runs.trackers.stand_in import stand_in_server
from tests.trainings import config_writer

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
RECORDER = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"
"""Stands in the place of python and deepspeed, and prints what it is called with."""

every_sweep = pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)


def drawn(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Return some settings of a sweep: all of a grid, and a few small and ordinary numbers of what is drawn."""
    numbers = random.Random(0)
    some = {}
    for key, parameter in parameters.items():
        if "values" in parameter:
            some[key] = parameter["values"]
        else:
            low, high = parameter["min"], parameter["max"]
            some[key] = [low, numbers.uniform(low, high), high]
    return [dict(zip(some, values, strict=True)) for values in itertools.product(*some.values())]


def command_of(sweep: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Return the command line that wandb's own functions make of a sweep."""
    arguments = create_sweep_command_args({"args": {key: {"value": value} for key, value in settings.items()}})
    replaced = {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]], **arguments}
    command: list[str] = []
    for part in create_sweep_command(list(sweep["command"])):
        whole = part.startswith("${") and part.endswith("}")
        command += replaced[part[2:-1]] if whole else [part]
    return command


@every_sweep
def test_its_metric_is_logged_and_its_commands_train_in_a_folder_of_their_own(path: Path, tmp_path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    assert sweep["metric"]["name"] in {metric.key for metric in METRICS}
    assert sweep["metric"]["goal"] == "maximize"
    for name in ("python", "deepspeed"):
        (tmp_path / name).write_text(RECORDER)
        (tmp_path / name).chmod(0o755)
    environment = ENVIRONMENT | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_SWEEP_ID": "sw33p", "WANDB_RUN_ID": "0001"
    }  # fmt: skip
    for settings in drawn(sweep["parameters"]):
        command = command_of(sweep, settings)
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        program, *arguments = done.stdout.splitlines()
        assert program == "launchers/train.py"
        place = arguments.index("--config")
        config_file, overrides = arguments[place + 1], arguments[:place] + arguments[place + 2 :]
        config = load_config(ROOT / config_file, overrides)
        assert config.tracking.model_dump()["wandb"] == "online"
        assert config.run_folder.parent == Path("runs/sweep-sw33p")
        assert config.run_folder.name.endswith("-0001")
        for key, value in settings.items():
            level: Any = config.dump()
            for part in key.split("."):
                level = level[part]
            assert level == value, key


@pytest.mark.long
def test_wandb_s_agent_runs_it_for_real(tmp_path: Path, tiny_shards: Path) -> None:
    """By `wandb sweep` and `wandb agent`, with a server on this machine, and a tiny set in the place of the letters."""
    (tmp_path / "launchers").symlink_to(ROOT / "launchers")
    (tmp_path / "configs" / "glyphs").mkdir(parents=True)
    written = config_writer(tmp_path, tiny_shards)("demo", train__epochs=1)
    written.rename(tmp_path / "configs" / "glyphs" / "demo.yaml")
    wandb = str(Path(sys.executable).with_name("wandb"))
    with stand_in_server() as server:
        environment = ENVIRONMENT | server.environment(tmp_path) | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        for command in (
            [wandb, "sweep", "--project", "letters", str(ROOT / "configs/sweeps/glyphs_learning_rate.yaml")],
            [wandb, "agent", "--count", "1", "somebody/letters/sw33p000"],
        ):
            server.arguments = {"train.optimizer.lr": 2e-05, "train.optimizer.weight_decay": 0.001}
            done = subprocess.run(
                command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
            )
            assert done.returncode == 0, done.stderr
    run = RunFolder(tmp_path / "runs" / "sweep-sw33p000" / "glyphs-r0n00000")
    assert run.model.exists()
    assert load_config(run.config_file).train.optimizer.lr == 2e-05
    assert read_tracker_ids(run) == {"wandb": "r0n00000"}, "the run that the agent began"
    assert [line["_step"] for line in server.history["r0n00000"]] == [1, 2, 3]
    assert "val/best" in server.summary["r0n00000"], "what the sweep goes by"
    bucket, *_ = server.called("UpsertBucket")
    assert (bucket["sweep"], bucket["project"]) == ("sw33p000", "letters")
