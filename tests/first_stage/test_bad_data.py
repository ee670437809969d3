"""Data that goes bad in the middle of a run, or comes from a server: how a run ends, goes on, and what it is worth."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ltrsys.cli.main import main
from ltrsys.commands.data.audit import audit_run
from ltrsys.config.reading import load_config
from ltrsys.data.config import make_sampler
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.plan.planner import Planner
from ltrsys.errors import DataError
from tests.data.servers import serving
from tests.first_stage.ranks import run as run_in_this_process
from tests.trainings import ROOT, losses_of, read_metrics, run_ranks, start_ranks

pytestmark = pytest.mark.long

STEPS = {"train__batch_size": 12, "train__micro_batch_size": 6}
"""Twelve steps of two micro-batches an epoch."""


@pytest.fixture
def shards(tiny_shards, tmp_path):
    """A copy to damage."""
    return shutil.copytree(tiny_shards, tmp_path / "shards")


def sample_of(shards, step, place=0):
    """The sample at a place of a step, counted from 1, of the first epoch."""
    planner = Planner(Dataset.open(shards).split("train"), make_sampler(), seed=0, num_epochs=2, samples_per_epoch=144)
    return int(planner.epoch(0).samples(np.array([(step - 1) * 12 + place]))[0])


def rot(shards, sample, name="train"):
    """Zero the middle of an image; return what puts it back."""
    split = Dataset.open(shards).split(name)
    path = split.shard_path(int(split.shard[sample]))
    before = path.read_bytes()
    with open(path, "r+b") as shard:
        shard.seek(int(split.offset[sample]) + 200)
        shard.write(bytes(200))
    return split, lambda: path.write_bytes(before)


def bits(run):
    return load_file(run / "model.safetensors")


def assert_same_bits(one, other):
    ours, theirs = bits(one), bits(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def newest_step(run):
    return max(int(path.name[5:14]) for path in (run / "checkpoints").glob("step-*"))


def test_a_rotten_image_ends_the_run_with_its_state_saved_and_restored_it_goes_on(write_config, shards, trained):
    straight = trained(**STEPS)
    sample = sample_of(shards, 8)
    split, restore = rot(shards, sample)
    path = write_config("rotten", data__shards=str(shards), **STEPS)
    run = load_config(path).run_folder
    command = [sys.executable, "launchers/train.py", "--config", str(path)]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("ltrsys: ")]
    assert f"{split.describe(sample)}: its bytes do not have the checksum of the index" in line
    step = newest_step(run)
    assert f"{run}: stopped after step {step}, whose state is saved; the same command goes on from there." in line
    assert 4 <= step < 8
    assert len(losses_of(run)) == step
    restore()
    run_in_this_process(path)
    assert losses_of(run) == losses_of(straight)
    assert_same_bits(run, straight)
    assert audit_run(run).complete


@pytest.mark.distributed
@pytest.mark.parametrize("place", [0, 1])
def test_all_ranks_stop_after_the_same_step_for_the_image_of_one(place, write_config, shards):
    sample = sample_of(shards, 9, place)
    _, restore = rot(shards, sample)
    path = write_config(data__shards=str(shards), **STEPS)
    run = load_config(path).run_folder
    processes = start_ranks(2, path)
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [1, 1]
    assert 5 <= newest_step(run) < 9
    assert not (run / "model.safetensors").exists()
    restore()
    run_ranks(2, path)
    report = audit_run(run)
    assert report.complete
    assert report.retrained_steps == 0


def test_what_is_bad_from_the_start_ends_the_run_before_a_step(write_config, shards):
    sample = sample_of(shards, 2)
    rot(shards, sample)
    path = write_config(data__shards=str(shards), **STEPS)
    with pytest.raises(DataError, match=rf"\(sample {sample}\): its bytes do not have the checksum"):
        run_in_this_process(path)


def test_skipped_samples_are_noted_and_audited_and_stopping_changes_no_bit(write_config, shards, capsys):
    for step in (2, 3, 9):
        rot(shards, sample_of(shards, step))
    skip = {"data__shards": str(shards), "data__on_error": "skip", "data__max_bad_share": 0.01, **STEPS}
    straight, stopped = write_config("straight", **skip), write_config("stopped", **skip)
    run_in_this_process(straight)
    run_in_this_process(stopped, stop_after=1)
    run_in_this_process(stopped)
    straight, stopped = load_config(straight).run_folder, load_config(stopped).run_folder
    assert losses_of(straight) == losses_of(stopped)
    assert_same_bits(straight, stopped)
    for run in (straight, stopped):
        noted = [json.loads(line)["sample"] for line in (run / "quarantine.jsonl").read_text().splitlines()]
        assert len(noted) == len(set(noted)) == 3
        report = audit_run(run)
        assert report.complete, report.findings
        assert 3 <= report.replaced <= 6
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["audit", str(stopped)])
    assert ended.value.code == 0
    assert f"{report.replaced} samples stood in for bad ones" in capsys.readouterr().out


def test_the_audit_tells_a_stand_in_from_another_sample(write_config, shards):
    rot(shards, sample_of(shards, 2))
    path = write_config(
        data__shards=str(shards), data__on_error="skip", data__max_bad_share=0.01, train__epochs=1, **STEPS
    )
    run_in_this_process(path)
    run = load_config(path).run_folder
    assert audit_run(run).replaced == 1
    quarantine = run / "quarantine.jsonl"
    entry = json.loads(quarantine.read_text())
    quarantine.write_text(json.dumps(entry | {"sample": entry["sample"] + 1}) + "\n")
    assert "1 positions hold another sample than the plan's" in audit_run(run).findings[0]


@pytest.mark.distributed
def test_skipped_samples_are_replaced_by_the_same_ones_on_two_ranks(write_config, shards):
    for step in (1, 5, 9):
        rot(shards, sample_of(shards, step))
    skip = {"data__shards": str(shards), "data__on_error": "skip", "data__max_bad_share": 0.01, **STEPS}
    alone, pair = write_config("alone", **skip), write_config("pair", **skip)
    run_in_this_process(alone)
    run_ranks(2, pair)
    alone, pair = load_config(alone).run_folder, load_config(pair).run_folder
    assert losses_of(pair) == pytest.approx(losses_of(alone), abs=1e-4)
    assert audit_run(pair).replaced == audit_run(alone).replaced > 0


def test_too_many_bad_samples_end_a_run_that_skips_with_its_state_saved(write_config, shards):
    for place in range(6):
        rot(shards, sample_of(shards, 9, place))
    path = write_config(data__shards=str(shards), data__on_error="skip", data__max_bad_share=0.01, **STEPS)
    with pytest.raises(
        DataError, match=r"5 of 425 train images are bad, .* stopped after step \d, whose state is saved"
    ):
        run_in_this_process(path)
    run = load_config(path).run_folder
    stopped = newest_step(run)
    assert 5 <= stopped < 9
    with pytest.raises(DataError, match=r"quarantine\.jsonl: 5 of 425 train images are bad, more than"):
        run_in_this_process(path)
    assert newest_step(run) == stopped
    run_in_this_process(
        write_config(data__shards=str(shards), data__on_error="skip", data__max_bad_share=0.02, **STEPS)
    )
    report = audit_run(run)
    assert report.complete
    assert report.replaced >= 6


@pytest.mark.distributed
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_bad_val_image_ends_the_run_which_goes_on_with_that_evaluation(ranks, write_config, shards, trained):
    sample = 7
    _, restore = rot(shards, sample, "val")
    path = write_config(data__shards=str(shards), data__on_error="skip", train__epochs=1)
    run = load_config(path).run_folder
    processes = start_ranks(ranks, path)
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [1] * ranks
    assert newest_step(run) == 3
    assert not any("val/all" in line for line in read_metrics(run))
    restore()
    run_ranks(ranks, path)
    straight = trained(ranks, train__epochs=1)
    assert_same_bits(run, straight)
    assert [line.get("val/all") for line in read_metrics(run)] == [
        line.get("val/all") for line in read_metrics(straight)
    ]


def test_training_from_a_server_that_misbehaves_gives_the_bits_of_the_disk(
    write_config, tiny_shards, tmp_path, trained
):
    with serving(tiny_shards) as server:
        server.faults.extend(["cut", None, "error 500", "slow", "wrong bytes", None, "hang up"])
        path = write_config("served", data__shards=server.url, data__cache=str(tmp_path / "cache"), train__epochs=1)
        run_in_this_process(path)
        assert not server.faults
        assert_same_bits(load_config(path).run_folder, trained(train__epochs=1))
        assert audit_run(load_config(path).run_folder).complete
