"""How much memory a task takes."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any


def extra_memory(task: Callable[[], Any]) -> float:
    """Return by how many bytes the peak of resident memory lies above what is resident before.

    What earlier work has freed, and the C library keeps, is given back first: it would hide what the task needs.
    """
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _resident("VmRSS:")
    task()
    return _resident("VmHWM:") - before


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024
