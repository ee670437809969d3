"""Sessions of onnxruntime."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from ltrsys.errors import DataError

ERRORS_ONLY = 3
"""onnxruntime's number of the level."""
TRIAL = (
    "import sys, onnxruntime\n"
    "onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
)  # fmt: skip


def session_of(path: Path) -> Any:
    """Return a session of an ONNX file, on the CPU, with onnxruntime's own settings.

    Another process loads it first: a ViT in float16 ends onnxruntime 1.32 by a segmentation fault, which would end
    this process too.

    Raises:
        DataError: Where onnxruntime cannot load it.
    """
    done = subprocess.run([sys.executable, "-c", TRIAL, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        ended = f"ended by signal {-done.returncode}" if done.returncode < 0 else _last_line(done.stderr)
        raise DataError(
            f"{path.name}: onnxruntime cannot load what was written ({ended}). Export it in float32, or use --format "
            "torch."
        )
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1].rstrip(".")
