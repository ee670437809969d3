import shutil

import numpy as np
import pytest

from ltrsys.audit import audit_run
from ltrsys.cli.main import main
from ltrsys.config_file import load_config
from ltrsys.errors import DataError, UsageError
from ltrsys.training.audit_log import row_type
from tests.training.conftest import config_writer
from tests.training.ranks import run as run_in_this_process

ROWS = row_type(12)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_shards):
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


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda rows: rows[1:], "epoch 2: 12 positions missed"),
        (same_position_twice, "epoch 2: 1 positions seen more than once"),
        (other_sample, "epoch 2: 1 positions hold another sample than the plan's"),
        (other_step, "step 4: has positions of another step or epoch"),
    ],
)
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
