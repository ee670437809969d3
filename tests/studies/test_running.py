"""Trainings of a study at once: the order in which they begin, what they are given, how they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ltrsys.studies.running import missing
from ltrsys.studies.study import OpenStudy
from tests.studies.test_studies import ltrsys, written

LTRSYS = """
import signal
from ltrsys.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
main()
"""
ROOT = Path(__file__).parent.parent.parent
RUNS = {
    "instance": {"config": "letters.yaml", "seeds": [0, 1, 2]},
    "block": {"config": "letters.yaml", "from": "instance", "overrides": ["train.trainable=last_block"]},
}
ROWS = [{"label": "Instance", "run": "instance"}, {"label": "Block", "run": "block"}]
NAMES = ["instance"] * 3 + ["block"]
STUDY = {"runs": RUNS, "rows": ROWS, "versus": None, "equal_footing": False}

two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


@two_cores
@pytest.mark.long
def test_two_at_once_make_the_table_and_a_training_waits_for_what_it_starts_from(
    tiny_shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, tiny_shards, **STUDY)
    with caplog.at_level("INFO", "ltrsys"):
        assert ltrsys("study", "run", path, "--jobs", "2") == 0
    printed, said = capfd.readouterr()
    assert "Block" in printed
    begun = [line.rpartition("/")[2].rstrip(".") for line in caplog.messages if "that are missing" in line]
    assert begun == [f"letters-{name}-seed{seed}" for name, seed in zip(NAMES, (0, 1, 2, 0), strict=True)]
    for name in begun:
        (trained,) = (line for line in said.splitlines() if line.startswith(f"{name}: 1 rank, CPU"))
        assert "(1 thread a rank)" in trained, "each has a core of its own"


def test_a_training_waits_for_the_one_that_makes_its_weights(tiny_shards: Path, tmp_path: Path) -> None:
    weights = tmp_path / "runs" / "letters-instance-seed1" / "model.safetensors"
    begun = {"config": "letters.yaml", "overrides": [f"model.weights={weights}"]}
    runs = {"begun": begun, "again": {"config": "letters.yaml", "from": "begun"}, "instance": RUNS["instance"]}
    path = written(tmp_path, tiny_shards, **{**STUDY, "runs": runs, "rows": ROWS[:1]})
    turns = {training.run.path.name: training.turn for training in OpenStudy.read(path).trainings}
    assert turns == {
        "letters-begun-seed0": 1,
        "letters-again-seed0": 2,
        **{f"letters-instance-seed{n}": 0 for n in range(3)},
    }
    first, *_ = missing(OpenStudy.read(path))
    assert first.key == "instance"
    weights.parent.mkdir(parents=True)
    weights.touch()
    waiting = {training.key: training.waits_for for training in OpenStudy.read(path).trainings}
    assert waiting["begun"] is None
    assert waiting["again"] is not None


@two_cores
@pytest.mark.long
def test_where_one_fails_the_other_ends_well_and_no_third_begins(
    tiny_shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, tiny_shards, **STUDY)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "letters-instance-seed0").write_text("in its way")
    assert ltrsys("study", "run", path, "--jobs", "2") == 1
    said = capfd.readouterr().err
    assert "letters-instance-seed0: this training of the study ended with exit code" in said
    assert "seed2" not in said
    assert (tmp_path / "runs" / "letters-instance-seed1" / "model.safetensors").exists()
    (tmp_path / "runs" / "letters-instance-seed0").unlink()
    assert ltrsys("study", "run", path, "--jobs", "2") == 0


def _has_made_a_step(run: Path) -> bool:
    metrics = run / "metrics.jsonl"
    return metrics.exists() and "train/loss" in metrics.read_text()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=two_cores)])
def test_a_signal_has_trainings_save_their_state(
    tiny_shards: Path, tmp_path: Path, jobs: int, number: signal.Signals
) -> None:
    path = written(tmp_path, tiny_shards, **STUDY)
    runs = [training.run.path for training in missing(OpenStudy.read(path))[:jobs]]
    changes = ["train.epochs=100000", "train.log_every=1"]  # the end of the first epoch is not waited for
    study = subprocess.Popen(
        [sys.executable, "-c", LTRSYS, "study", "run", str(path), "--jobs", str(jobs), *changes],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while not all(_has_made_a_step(run) for run in runs):
            assert study.poll() is None
            time.sleep(0.01)
    finally:
        os.killpg(study.pid, number)  # as a terminal does
        said = study.communicate()[1]
    assert study.returncode == 130
    assert "The same command continues" in said
    assert said.count("whose state is saved") == jobs
    assert all(list((run / "checkpoints").glob("*.safetensors")) for run in runs)
    of_this_study = subprocess.run(["pgrep", "--full", str(tmp_path)], capture_output=True, text=True, check=False)
    assert of_this_study.stdout == ""
