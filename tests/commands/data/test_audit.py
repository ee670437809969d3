import json
import shutil

import numpy as np
import pytest

from ltrsys.cli.main import main
from ltrsys.commands.data.audit import audit_run
from ltrsys.config.reading import load_config, save_config
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.glyphs import read_glyphs
from ltrsys.errors import DataError, LtrsysError, UsageError
from ltrsys.runs.audit_log import attempt_folders, begin_attempt, row_type
from tests.first_stage.ranks import run as run_in_this_process
from tests.trainings import config_writer

ROWS = row_type(12)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_shards, one_thread):
    """A run of two epochs that was stopped after the first and continued."""
    path = config_writer(tmp_path_factory.mktemp("audit"), tiny_shards)()
    run_in_this_process(path, stop_after=1)
    run_in_this_process(path)
    return load_config(path).run_folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it, to change."""
    return shutil.copytree(trained, tmp_path / "run")


def change(run, attempt, edit):
    path = run / "audit" / f"attempt-{attempt:04d}" / "rank-00000.rows"
    rows = np.frombuffer(path.read_bytes(), ROWS).copy()
    path.write_bytes(edit(rows).tobytes())


@pytest.mark.long
def test_attempts_are_put_together(run):
    report = audit_run(run)
    assert report.complete
    assert [(attempt.first_step, attempt.last_step) for attempt in report.attempts] == [(0, 3), (3, 6)]
    assert (report.steps, report.samples, report.retrained_steps) == (6, 6 * 48, 0)


def test_steps_that_were_trained_again_count_once(run):
    def beyond_the_checkpoint(rows):
        again = rows[-4:].copy()
        again["step"], again["epoch"], again["samples"] = 4, 1, 0
        return np.concatenate([rows, again])

    change(run, 1, beyond_the_checkpoint)
    report = audit_run(run)
    assert report.complete
    assert report.retrained_steps == 1


def test_a_row_that_a_kill_left_half_written_is_left_out(run):
    path = run / "audit" / "attempt-0002" / "rank-00000.rows"
    path.write_bytes(path.read_bytes() + b"half a row")
    assert audit_run(run).complete


def one_micro_batch_of_step_6(rows):
    return rows[:9]


def zeros_after_step_5(rows):
    rows[8:] = 0
    return rows


@pytest.mark.parametrize("edit", [one_micro_batch_of_step_6, zeros_after_step_5])
def test_what_a_kill_left_of_steps_after_the_last_checkpoint_does_not_count(run, edit, capsys):
    saved = run / "checkpoints" / "step-000000003.safetensors"
    for path in {*run.glob("checkpoints/step-*"), run / "model.safetensors"} - {saved}:
        path.unlink()
    change(run, 2, edit)
    report = audit_run(run)
    assert report.complete, report.findings
    assert (report.steps, report.samples) == (3, 3 * 48)
    assert report.unsaved_steps == (3 if edit is one_micro_batch_of_step_6 else 2)
    assert report.retrained_steps == 0
    with pytest.raises(SystemExit):
        main(["audit", str(run)])
    assert f"{report.unsaved_steps} more steps do not count: no checkpoint holds them." in capsys.readouterr().out


@pytest.mark.parametrize("kept", ["checkpoints", "model.safetensors"])
def test_records_that_end_before_the_last_step_are_told(run, kept):
    """The whole last step lacks on all ranks: what says that it was trained is the checkpoint, or the model."""
    (run / "model.safetensors").unlink() if kept == "checkpoints" else shutil.rmtree(run / "checkpoints")
    change(run, 2, lambda rows: rows[:8])
    assert audit_run(run).findings == ["epoch 2: 48 positions missed, the first of them 96"]


def test_shards_that_are_not_the_run_s_are_told(run, tmp_path):
    config = load_config(run / "config.yaml")
    other = tmp_path / "other"
    build_shards(read_glyphs(num_classes=12, seed=1, train_per_class=20), other)
    save_config(
        config.model_copy(update={"data": config.data.model_copy(update={"shards": other})}), run / "config.yaml"
    )
    with pytest.raises(UsageError, match=r"this run was begun on other shards than data\.shards="):
        audit_run(run)


def test_an_attempt_that_a_full_disk_kept_from_beginning_is_left_out(small_disk):
    folder = small_disk("4k")
    filling = folder / "filling"
    filling.write_bytes(bytes(4096))  # it has room for folders, and for nothing in them
    facts = {"first_step": 0, "world_size": 1, "micro_batch_size": 12, "batch_size": 48}
    with pytest.raises(LtrsysError, match="the disk is full"):
        begin_attempt(folder, **facts)
    assert (folder / "attempt-0001").is_dir()
    assert attempt_folders(folder) == []
    filling.unlink()
    assert begin_attempt(folder, **facts) == 1


def test_an_attempt_takes_no_other_s_place(tmp_path):
    facts = {"first_step": 0, "world_size": 1, "micro_batch_size": 12, "batch_size": 48}
    assert [begin_attempt(tmp_path, **facts) for _ in range(2)] == [1, 2]
    shutil.rmtree(tmp_path / "attempt-0001")
    assert begin_attempt(tmp_path, **facts) == 3


@pytest.mark.parametrize("content", ["[]", "{}", '{"first_step": 0, "world_size": 1, "micro_batch_size": "12"}'])
def test_a_record_of_an_attempt_that_is_none_is_named(run, content):
    facts = run / "audit" / "attempt-0001" / "attempt.json"
    facts.write_text(content)
    with pytest.raises(DataError, match=rf"^{facts.parent}: attempt\.json is not of this version: "):
        audit_run(run)


def test_records_of_another_plan_are_not_compared(run):
    facts = run / "audit" / "attempt-0001" / "attempt.json"
    values = json.loads(facts.read_text())
    del values["plan"]  # as the first version wrote it
    facts.write_text(json.dumps(values))
    with pytest.raises(DataError, match="trained with version 1 of the plan"):
        audit_run(run)


def other_sample(rows):
    rows["samples"][0, 0] += 1
    return rows


def same_position_twice(rows):
    rows["positions"][0, 0] = rows["positions"][0, 1]
    rows["samples"][0, 0] = rows["samples"][0, 1]
    return rows


def other_step(rows):
    rows["positions"][0] += 48
    return rows


def garbage(rows):
    rows["epoch"][0], rows["positions"][1], rows["positions"][2] = 2**31 - 1, -(2**62), 2**62
    return rows


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda rows: rows[1:], "epoch 2: 12 positions missed"),
        (same_position_twice, "epoch 2: 1 positions seen more than once"),
        (other_sample, "epoch 2: 1 positions hold another sample than the plan's"),
        (other_step, "step 4: has positions of another step or epoch"),
        (garbage, "step 4: has positions of another step or epoch"),
    ],
)
@pytest.mark.long
def test_what_is_wrong_is_told(run, edit, finding, capsys):
    change(run, 2, edit)
    report = audit_run(run)
    assert any(found.startswith(finding) for found in report.findings), report.findings
    with pytest.raises(SystemExit) as stopped:
        main(["audit", str(run)])
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"ltrsys: {run}: ")
    assert printed.err.count("\n") == 1


def test_the_command_says_that_all_is_well(run, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["audit", str(run)])
    assert stopped.value.code == 0
    assert "Every position up to the last step was trained on once" in capsys.readouterr().out


def test_a_folder_without_records_is_named(run, tmp_path):
    shutil.rmtree(run / "audit")
    with pytest.raises(DataError, match="there are no records of a training here"):
        audit_run(run)
    with pytest.raises(UsageError, match="not a run folder"):
        audit_run(tmp_path)
