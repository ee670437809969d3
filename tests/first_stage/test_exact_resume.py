"""A run that is killed, stopped by a signal or continued on other ranks ends as one that never stopped."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ltrsys.commands.data.audit import audit_run
from ltrsys.config.reading import load_config
from ltrsys.errors import DataError, LtrsysError, UsageError
from ltrsys.first_stage.trainer import train
from ltrsys.training.checkpoints.checkpoint import Checkpoint, Progress
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.world import World
from tests.first_stage.ranks import run as run_in_this_process
from tests.trainings import ROOT, losses_of, read_metrics, run_ranks, start_ranks

pytestmark = pytest.mark.distributed

STEPS = 6

HOLDING = """
import sys
from pathlib import Path
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.lock import locked
with locked(RunFolder(Path(sys.argv[1])), 3):
    print("held", flush=True)
    sys.stdin.read()
"""
"""Another process that trains, as far as the run's folder can tell."""


def bits(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def assert_ends_alike(run: Path, straight: Path) -> None:
    assert losses_of(run) == losses_of(straight)
    ours, theirs = bits(run), bits(straight)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    steps = [(line["step"], "train/loss" in line) for line in read_metrics(run)]
    assert steps == [(line["step"], "train/loss" in line) for line in read_metrics(straight)]
    assert audit_run(run).complete


@pytest.fixture
def straight(trained):
    """Make the runs that are never stopped: epochs of three steps, logged every second step."""
    return lambda ranks, epochs=2: trained(ranks, train__log_every=2, train__epochs=epochs)


def wait_for(condition, processes) -> None:
    """Poll until `condition` holds or the processes have ended."""
    while not condition() and any(process.exitcode is None for process in processes):
        time.sleep(0.002)


def kill_when(condition, ranks: int, path: Path, generator: torch.Generator | None = None) -> bool:
    """Start a run and end it by SIGKILL as soon as `condition` holds; return whether it was still running.

    With a generator, a random part of a second later.
    """
    processes = start_ranks(ranks, path)
    wait_for(condition, processes)
    if generator is not None:
        time.sleep(float(torch.rand((), generator=generator)) / 2)
    running = all(process.exitcode is None for process in processes)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    return running


def checkpoints_of(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").glob("step-*")}


def being_written(run: Path) -> bool:
    return any((run / "checkpoints").glob(".*partial*"))


MOMENTS = {
    "a checkpoint is there": lambda run: len(checkpoints_of(run)) > 0,
    "a checkpoint is being written": lambda run: len(checkpoints_of(run)) > 0 and being_written(run),
    "the first epoch is over": lambda run: "step-000000003.safetensors" in checkpoints_of(run),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_is_killed_ends_with_the_same_bits(moment, write_config, straight):
    path = write_config(train__log_every=2, train__checkpoint_every_steps=1)
    run = load_config(path).run_folder
    assert kill_when(lambda: MOMENTS[moment](run), 2, path)
    assert not (run / "model.safetensors").exists()
    run_ranks(2, path)
    assert_ends_alike(run, straight(2))


@pytest.mark.slow
def test_twenty_random_kills_change_no_bit(write_config, straight):
    """Each attempt is killed when it has made a random number of checkpoints, and a random moment later."""
    path = write_config(train__log_every=2, train__checkpoint_every_steps=1, train__epochs=20)
    run = load_config(path).run_folder
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        enough = newest_step(run) + int(torch.randint(0, 3, (), generator=generator))
        assert kill_when(lambda enough=enough: newest_step(run) >= enough, 2, path, generator)
    run_ranks(2, path)
    assert len(audit_run(run).attempts) > 10  # some are killed before they have begun
    assert_ends_alike(run, straight(2, epochs=20))


def newest_step(run: Path) -> int:
    return max((int(name[5:14]) for name in checkpoints_of(run)), default=0)


def stop_by(number: int, path: Path) -> tuple[int, str]:
    """Start a run and send it a signal once it has logged a line; return its exit code and what it said."""
    run = load_config(path).run_folder
    command = [sys.executable, "launchers/train.py", "--config", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    while not ((run / "metrics.jsonl").exists() and read_metrics(run)) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_run_and_ends_it_and_it_goes_on(number, write_config, straight):
    path = write_config(train__log_every=2)
    run = load_config(path).run_folder
    code, errors = stop_by(number, path)
    assert code == 128 + number, errors
    assert "stopped by a signal after step" in errors
    assert "Traceback" not in errors
    assert len(checkpoints_of(run)) > 0
    run_in_this_process(path)
    assert_ends_alike(run, straight(1))


def test_a_second_training_is_kept_out_of_the_run_s_folder_and_let_in_after_its_end(write_config, straight, caplog):
    path = write_config(train__log_every=2, train__timeout_seconds=3)
    config = load_config(path)
    command = [sys.executable, "-c", HOLDING, str(config.run_folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=rf"process {holder.pid} on \S+ is training here\. Let it end"):
            train(config, World.detect())
        assert not (config.run_folder / "config.yaml").exists()
        holder.kill()  # what it held goes with it
    train(config, World.detect())
    assert_ends_alike(config.run_folder, straight(1))
    assert caplog.text.count("is training here; waiting for a while") == 1


def test_a_run_that_a_signal_stops_on_a_full_disk_says_that_nothing_is_saved(write_config, small_disk):
    """Not 128 + the signal's number, for which a batch script would begin it again, and again."""
    code, errors = stop_by(signal.SIGTERM, write_config(runs=str(small_disk("30m"))))
    assert code == 1, errors
    assert "the disk is full" in errors
    assert "whose state could not be saved. Put right what the warning above says" in errors


def test_sigusr1_saves_and_the_run_goes_on(write_config, straight):
    path = write_config(train__log_every=1, train__checkpoint_every=1000)
    run = load_config(path).run_folder
    (process,) = start_ranks(1, path)
    wait_for(lambda: (run / "metrics.jsonl").exists() and len(read_metrics(run)) > 0, [process])
    os.kill(process.pid, signal.SIGUSR1)
    process.join(timeout=120)
    assert process.exitcode == 0
    saved = sorted(checkpoints_of(run))
    assert saved[-1] == f"step-{STEPS:09d}.safetensors"
    assert len(saved) == 2
    assert all(
        torch.equal(one, other) for one, other in zip(bits(run).values(), bits(straight(1)).values(), strict=True)
    )


def test_sigusr1_does_not_end_a_run_that_has_only_begun(write_config):
    path = write_config(train__epochs=1)
    run = load_config(path).run_folder
    command = [sys.executable, "launchers/train.py", "--config", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while not (run / "lock").exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=120) == 0


@pytest.mark.parametrize(("ranks", "saved"), [(1, {1, 2, 3, 4, 5, 6}), (2, {2, 4, 6})])
def test_checkpoints_are_made_by_the_clock(ranks, saved, write_config):
    """After every step, as each takes longer than that; two ranks agree on it a step later."""
    path = write_config(train__checkpoint_every_minutes=1e-6, train__checkpoint_every=1000, train__keep_checkpoints=100)
    run_ranks(ranks, path)
    assert checkpoints_of(load_config(path).run_folder) == {f"step-{step:09d}.safetensors" for step in saved}


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_run_goes_on_on_other_ranks(ranks, copied, trained):
    """The micro-batches stay, so BatchNorm sees the same groups; what is left is rounding."""
    path = copied(ranks=2, stop_after=1)
    run = load_config(path).run_folder
    run_ranks(ranks, path)
    assert losses_of(run) == pytest.approx(losses_of(trained(2)), abs=1e-4)
    report = audit_run(run)
    assert report.complete
    assert [attempt.world_size for attempt in report.attempts] == [2, ranks]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(write_config, straight, caplog):
    path = write_config(train__log_every=2, train__checkpoint_every_steps=1)
    run = load_config(path).run_folder
    run_in_this_process(path, stop_after=1)
    newest = run / "checkpoints" / "step-000000003.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1000] ^= 1
    newest.write_bytes(content)
    run_in_this_process(path)
    assert f"{newest}: damaged: its bytes do not have the checksum" in caplog.text
    assert "step-000000002.safetensors is whole: the run goes on from there" in caplog.text
    assert_ends_alike(run, straight(1))


def test_a_full_disk_leaves_the_last_checkpoints_and_the_run_goes_on(write_config, small_disk, caplog, straight):
    """Two checkpoints of 39 MB and a model of 20 MB have room, a third checkpoint has not."""
    disk = small_disk("105m")
    path = write_config(runs=str(disk), train__checkpoint_every_steps=1, train__log_every=2)
    run = load_config(path).run_folder
    run_in_this_process(path)
    last_good = run / "checkpoints" / "step-000000002.safetensors"
    for step in (3, 4, 5, 6):
        assert f"step-{step:09d}.safetensors: the disk is full" in caplog.text
    assert caplog.text.count(f"The last good checkpoint is {last_good}") >= 4
    assert [path.name for path in sorted(run.glob("checkpoints/*"))] == ["step-000000001.safetensors", last_good.name]
    assert (run / "model.safetensors").exists()

    small_disk("1g")
    run_in_this_process(path)
    assert_ends_alike(run, straight(1))


def test_a_disk_that_is_full_from_the_start_is_told(small_disk, caplog):
    folder = CheckpointFolder(small_disk("8k"), kept=1)
    progress = Progress(dataset="", config={}, micro_batch_size=1, world_size=1)
    folder.save(Checkpoint({"weight": torch.zeros(10_000)}, {}, progress))
    folder.close()
    assert "the disk is full" in caplog.text
    assert "There is no checkpoint yet." in caplog.text


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """The writer is held back until training has taken its next step, and writes what was there before it."""
    stepped = threading.Event()
    write = Checkpoint.save

    def write_after_the_step(checkpoint, path):
        assert stepped.wait(timeout=60)
        write(checkpoint, path)

    monkeypatch.setattr(Checkpoint, "save", write_after_the_step)
    folder = CheckpointFolder(tmp_path, kept=1)
    weight = torch.zeros(3)
    folder.save(Checkpoint({"weight": weight}, {}, Progress(dataset="", config={}, micro_batch_size=1, world_size=1)))
    weight += 1
    stepped.set()
    folder.close()
    _, saved = CheckpointFolder(tmp_path, kept=1).newest()
    assert saved.network["weight"].tolist() == [0, 0, 0]


def test_where_all_checkpoints_are_damaged_the_way_out_is_told(tmp_path):
    for step in (3, 4):
        (tmp_path / f"step-{step:09d}.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match=rf"step-000000004.* is whole: move {tmp_path} away to begin it anew\.$"):
        CheckpointFolder(tmp_path, kept=1).newest()


def test_checkpoints_that_cannot_be_looked_for_are_not_taken_for_none(write_config):
    path = write_config()
    run = load_config(path).run_folder
    run.mkdir(parents=True)
    (run / "checkpoints").write_text("a file in the place of the folder: listing it fails, for every user")
    with pytest.raises(LtrsysError, match=r"the folder of checkpoints cannot be read \(Not a directory\)"):
        run_in_this_process(path)
    assert not (run / "metrics.jsonl").exists()


def test_a_damaged_checkpoint_takes_no_place_of_a_good_one(tmp_path):
    (tmp_path / "step-000000009.safetensors").write_bytes(b"damaged")
    folder = CheckpointFolder(tmp_path, kept=1)
    for step in (3, 4):
        progress = Progress(dataset="", config={}, micro_batch_size=1, world_size=1, step=step)
        folder.save(Checkpoint({"weight": torch.zeros(3)}, {}, progress))
    folder.close()
    path, checkpoint = CheckpointFolder(tmp_path, kept=1).newest()
    assert (path.name, checkpoint.progress.step) == ("step-000000004.safetensors", 4)
    assert sorted(one.name for one in tmp_path.iterdir()) == [path.name, "step-000000009.safetensors"]


def test_the_last_checkpoints_are_kept_and_the_best(write_config):
    path = write_config(train__checkpoint_every_steps=1, train__keep_checkpoints=3)
    run_in_this_process(path)
    run = load_config(path).run_folder
    names = sorted(file.name for file in (run / "checkpoints").iterdir())
    assert names == ["best.safetensors", *(f"step-{step:09d}.safetensors" for step in (4, 5, 6))]


def test_metrics_are_json_lines_after_a_kill(write_config):
    path = write_config(train__checkpoint_every_steps=1)
    run = load_config(path).run_folder
    assert kill_when(lambda: len(checkpoints_of(run)) > 0, 1, path)
    run_ranks(1, path)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, STEPS + 1))
