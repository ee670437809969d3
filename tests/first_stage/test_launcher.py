import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltrsys.training.supervision.process_group import free_port
from tests.trainings import ROOT, losses_of, read_metrics

pytestmark = pytest.mark.distributed
DEEPSPEED = Path(sys.executable).with_name("deepspeed")
SET_BY_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launch(*arguments: str, ranks: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run launchers/train.py: by the deepspeed launcher with `ranks`, or plainly by Python."""
    launcher = [sys.executable]
    if ranks is not None:
        launcher = [str(DEEPSPEED), "--num_gpus", str(ranks), "--master_port", str(free_port())]
    environment = {name: value for name, value in os.environ.items() if name not in SET_BY_LAUNCHERS}
    environment |= {
        "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1",
        "PATH": f"{DEEPSPEED.parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    command = [*launcher, "launchers/train.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def error_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("ltrsys: ")]


def test_the_deepspeed_launcher_trains_on_two_ranks(write_config):
    path = write_config(train__engine="deepspeed", train__epochs=1)
    done = launch("--config", str(path), "train.log_every=2", ranks=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("val accuracy: many") == 1
    run = path.parent / "runs" / "tiny"
    assert (run / "model.safetensors").exists()
    assert [line["step"] for line in read_metrics(run) if "train/loss" in line] == [2, 3]


def test_one_mistake_is_told_once_whatever_the_number_of_ranks(write_config):
    done = launch("--config", str(write_config()), "train.epoch=3", ranks=2)
    assert done.returncode == 2
    (line,) = error_lines(done)
    assert "unknown key `train.epoch`. Did you mean `train.epochs`?" in line
    assert "Traceback" not in done.stderr


def test_ranks_that_see_other_checkpoints_do_not_go_on_together(copied, write_config):
    """Their weights would be the first rank's, their samples those of other steps."""
    shared = {"train__epochs": 1, "train__checkpoint_every_steps": 1, "train__timeout_seconds": 60}
    first, own = copied("first", **shared), write_config("own", **shared)
    (first.parent / "runs" / "first" / "model.safetensors").unlink()
    port = str(free_port())
    processes = []
    for rank, path in enumerate((first, own)):
        environment = os.environ | {
            "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, "launchers/train.py", "--config", str(path)]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    for error in errors:
        assert "rank 1 would go on after step 0, the first rank after step 3. All ranks need the same run" in error


def test_without_a_launcher_there_is_one_rank_and_no_search_for_mpi(write_config):
    path = write_config(train__engine="deepspeed", train__epochs=1)
    done = launch("--config", str(path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(losses_of(path.parent / "runs" / "tiny")) == 3
    assert "Traceback" not in done.stderr


def test_a_wrong_command_line_is_one_line():
    done = launch("--config", "none.yaml", "--frobnicate")
    assert done.returncode == 2
    assert done.stderr == "ltrsys: No such option: --frobnicate\n"


def test_a_missing_file_is_one_line_and_a_traceback_only_on_request(write_config):
    done = launch("--config", "none.yaml")
    assert done.returncode == 2
    assert done.stderr == "ltrsys: none.yaml: cannot read this config: No such file or directory.\n"
    assert "Traceback" in launch("--config", "none.yaml", "--debug").stderr
