"""`ltrsys/__init__.py` states the version; whoever tells it tells that one."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ltrsys import __version__
from ltrsys.cli.main import main
from ltrsys.runs.audit_log import attempt_folders, begin_attempt
from ltrsys.training.checkpoints.checkpoint import Progress

ROOT = Path(__file__).parent.parent


def test_the_command_tells_it(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert (exit_.value.code, capsys.readouterr().out) == (0, f"ltrsys {__version__}\n")


def test_the_package_is_of_it():
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [__version__]


def test_the_records_of_a_run_hold_it(tmp_path):
    begin_attempt(tmp_path, first_step=0, world_size=1, micro_batch_size=8, batch_size=8)
    (folder,) = attempt_folders(tmp_path)
    assert json.loads((folder / "attempt.json").read_text())["code"] == __version__
    progress = Progress(micro_batch_size=8, world_size=1, dataset="abc", config={})
    assert json.loads(progress.model_dump_json())["code"] == __version__


def test_the_changelog_begins_with_it():
    versions = re.findall(r"^## \[(.+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == __version__
    assert "0.1.0" in versions
