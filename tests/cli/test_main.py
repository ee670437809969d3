import subprocess
import sys
from pathlib import Path

import pytest

from ltrsys import __version__
from ltrsys.cli.main import main, run_reporting_errors
from ltrsys.errors import DataError, UsageError

LTRSYS = Path(sys.executable).parent / "ltrsys"


def run(*arguments):
    return subprocess.run([LTRSYS, *arguments], capture_output=True, text=True, check=False)


def test_the_command_is_installed_and_lists_its_subcommands():
    done = run("--help")
    assert done.returncode == 0
    for subcommand in ("shards", "inspect", "balance", "evaluate", "predict", "export", "serve", "report", "compare"):
        assert subcommand in done.stdout


def test_the_version_is_printed():
    assert run("--version").stdout == f"ltrsys {__version__}\n"


def test_nothing_slow_is_imported_before_a_command_needs_it():
    slow = "torch, torchvision, scipy, sklearn, numpy, matplotlib, PIL, pydantic, nvidia.dali, deepspeed, wandb"
    ask = "import sys, ltrsys.cli.main; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "ltrsys.cli.data.shards" in imported
    assert not imported & set(slow.split(", "))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["inspect"], "Missing argument"),
        (["inspect", "nowhere", "--frobnicate"], "No such option"),
        (["shards", "glyphs"], "Missing option '--out'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("ltrsys: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1


def raising(error):
    def task():
        raise error

    return task


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("train.epochs: wrong"), 2),
        (DataError("shard: damaged"), 1),
        (ZeroDivisionError("division by zero"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(capsys, error, code):
    assert run_reporting_errors(raising(error), debug=False) == code
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert str(error) in printed


def test_ctrl_c_in_a_command_says_that_what_is_finished_is_kept(capsys, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("ltrsys.commands.data.audit.audit_run", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "nowhere"])
    assert stopped.value.code == 130
    printed = capsys.readouterr().err.strip()
    assert printed == "ltrsys: interrupted; what was finished is kept. The same command continues."


@pytest.mark.parametrize(("error", "code"), [(UsageError("wrong"), 2), (DataError("damaged"), 1), (KeyError("x"), 1)])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(capsys, error, code):
    assert run_reporting_errors(raising(error), debug=True) == code
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_exit_code_passes_through():
    assert run_reporting_errors(lambda: 3, debug=False) == 3
    assert run_reporting_errors(lambda: None, debug=False) == 0
