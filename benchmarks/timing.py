"""The time of what a device does; needs nothing but torch."""

import time
from collections.abc import Callable

import torch


def clocked(task: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a task, what it makes the host do included.

    By CUDA's events on a GPU, and by the host's clock on a CPU.
    """
    if device.type == "cpu":
        begun = time.perf_counter()
        task()
        return time.perf_counter() - begun
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    task()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done all that it has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
