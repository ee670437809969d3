"""Extensions are built once, whole, and no build that was killed is waited for."""

import logging
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from ltrsys.kernels.gpu.extension import load_extension

pytestmark = pytest.mark.long

SOURCE = """
#include <Python.h>

#define JOINED(first, second) first##second
#define STARTS(name) JOINED(PyInit_, name)
#define QUOTED(name) #name
#define TEXT(name) QUOTED(name)

static PyModuleDef module = {PyModuleDef_HEAD_INIT, TEXT(TORCH_EXTENSION_NAME), "built", -1, nullptr};

PyMODINIT_FUNC STARTS(TORCH_EXTENSION_NAME)() { return PyModule_Create(&module); }
"""

BUILD = """
import sys
from pathlib import Path

from torch.utils import cpp_extension
from torch.utils.file_baton import FileBaton

from ltrsys.kernels.gpu.extension import load_extension


class Baton(FileBaton):
    '''The lock of torch's releases before 2.14: a file that is there as long as someone builds, or was killed.'''

    def __enter__(self):
        if not self.try_acquire():
            sys.exit("waits for ever")

    def __exit__(self, *error):
        self.release()


cpp_extension.FileLock = Baton
print(load_extension("example", [Path(sys.argv[1])], Path(sys.argv[2])).__doc__)
"""

STOPS = """#!/bin/sh
case "$*" in
  *" -c "*) echo compiling > "$STARTED"; read -r never < "$NEVER";;
  *) exec "$COMPILER" "$@";;
esac
"""
"""A compiler that says that it has begun, and goes on for ever."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "example.cpp"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return path


def test_the_build_after_one_that_was_killed_waits_for_nothing(source: Path, tmp_path: Path) -> None:
    folder, compiler = tmp_path / "built", tmp_path / "bin" / "c++"
    compiler.parent.mkdir()
    compiler.write_text(STOPS)
    compiler.chmod(0o755)
    pipes = {name: tmp_path / name for name in ("STARTED", "NEVER")}
    for pipe in pipes.values():
        os.mkfifo(pipe)
    command = [sys.executable, "-c", BUILD, str(source), str(folder)]
    environment = {**os.environ, "CXX": "c++", "TORCH_EXTENSIONS_DIR": str(tmp_path / "torch")}
    slow = {**environment, **{name: str(pipe) for name, pipe in pipes.items()}}
    slow |= {"PATH": f"{compiler.parent}:{os.environ['PATH']}", "COMPILER": str(shutil.which("c++"))}
    compilers: list[psutil.Process] = []
    started = os.open(pipes["STARTED"], os.O_RDONLY | os.O_NONBLOCK)
    killed = subprocess.Popen(command, env=slow, start_new_session=True)
    ended = os.pidfd_open(killed.pid)
    try:
        readable, _, _ = select.select([started, ended], [], [])
        assert started in readable, "the build ended before it compiled anything"
        compilers = psutil.Process(killed.pid).children(recursive=True)
        os.kill(killed.pid, signal.SIGKILL)  # its compiler goes on
        assert killed.wait() == -signal.SIGKILL
        again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    finally:
        killed.kill()
        for one in compilers:  # each in a process group of its own, by ninja
            with suppress(psutil.NoSuchProcess):
                one.kill()
        os.close(started)
        os.close(ended)
    assert again.returncode == 0, again.stderr
    assert again.stdout == "built\n"


def test_what_was_built_is_used_again_and_building_is_said(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "built"
    with caplog.at_level(logging.INFO, logger="ltrsys"):
        assert load_extension("example", [source], folder).__doc__ == "built"
        (built,) = folder.iterdir()
        (record,) = caplog.records
        assert "example is compiled for this machine, once" in record.getMessage()
        assert "about a minute" in record.getMessage()
        written = built.stat().st_mtime_ns
        assert load_extension("example", [source], folder).__doc__ == "built"
    assert (list(folder.iterdir()), built.stat().st_mtime_ns) == ([built], written)
    assert len(caplog.records) == 1


def test_other_code_and_other_gpus_get_a_build_of_their_own(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ltrsys.kernels.gpu import extension

    prints = {extension._fingerprint([source])}
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    prints.add(extension._fingerprint([source]))
    monkeypatch.setattr(torch, "__version__", "another")
    prints.add(extension._fingerprint([source]))
    source.with_name("included.h").write_text("")
    prints.add(extension._fingerprint([source]))
    source.write_text(SOURCE + " ")
    prints.add(extension._fingerprint([source]))
    assert len(prints) == 5


def test_a_build_that_fails_leaves_nothing(source: Path, tmp_path: Path) -> None:
    source.write_text("this is not C++")
    with pytest.raises(RuntimeError, match="Error building extension"):
        load_extension("example", [source], tmp_path / "built")
    assert list((tmp_path / "built").iterdir()) == []
