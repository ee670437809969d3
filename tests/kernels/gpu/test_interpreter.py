"""Triton's kernels in numpy, against float64: the `interpreted_*.py` beside this file.

Triton decides at its import whether kernels are interpreted, so they run in a process of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")

HERE = Path(__file__).parent


@pytest.mark.parametrize("path", sorted(HERE.glob("interpreted_*.py")), ids=lambda path: path.stem)
def test_kernels_agree_with_float64_under_the_interpreter(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
