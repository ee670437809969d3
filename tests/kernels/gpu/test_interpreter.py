"""Triton's kernels in numpy, against float64: the `interpreted_*.py` beside this file.

Triton decides at its import whether kernels are interpreted, so they run in processes of their own, all at a time.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")

pytestmark = pytest.mark.long

PATHS = sorted(Path(__file__).parent.glob("interpreted_*.py"))


@pytest.fixture(scope="module")
def started() -> Iterator[dict[Path, subprocess.Popen[str]]]:
    """Start a process for each file. One thread each: what the interpreter computes at a time is small."""
    environment = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    processes = {
        path: subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for path in PATHS
    }
    yield processes
    for process in processes.values():
        process.kill()  # does nothing to one that has ended
        process.wait()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_kernels_agree_with_float64_under_the_interpreter(
    path: Path, started: dict[Path, subprocess.Popen[str]]
) -> None:
    output, _ = started[path].communicate()
    assert started[path].returncode == 0, output[-8000:]
