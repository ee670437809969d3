"""Which GPUs the kernels are for, and which GPU is the current one while an operation runs."""

import functools
import logging
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch

log = logging.getLogger("ltrsys")

HAS_TRITON = find_spec("triton") is not None
LEAST_MAJOR = 8
"""Of the compute capability. Tensor cores before 8.0 know neither bfloat16 nor TF32, and the tiles spill there."""


def current_device(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one: Triton launches there, whatever device the tensors are on. Nothing on a CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def runs_triton(device: torch.device) -> bool:
    """Whether Triton's kernels run on a device; where they do not on a GPU, one line says why."""
    return _runs(device, None if HAS_TRITON else "they are Triton's, which is not installed")


def runs_cuda(device: torch.device) -> bool:
    """Whether the kernels in CUDA C++ run on a device; where they do not on a GPU, one line says why."""
    return _runs(device, None)


def reason_against(device: torch.device) -> str | None:
    """Say why the kernels are not for a GPU, None if they are."""
    needed = f"they are for NVIDIA's GPUs of compute capability {LEAST_MAJOR}.0 or later"
    if torch.version.hip is not None:
        return f"{needed}, and this is ROCm {torch.version.hip}"
    major, minor = torch.cuda.get_device_capability(device)
    return None if major >= LEAST_MAJOR else f"{needed}, and this one has {major}.{minor}"


def _runs(device: torch.device, other_reason: str | None) -> bool:
    if device.type != "cuda":
        return False
    reason = reason_against(device) or other_reason
    if reason is not None:
        _say_once(torch.cuda.get_device_name(device), reason)
    return reason is None


@functools.cache
def _say_once(gpu: str, reason: str) -> None:
    log.warning("%s: plain torch computes here, more slowly, and not the fused kernels: %s.", gpu, reason)
