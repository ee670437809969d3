"""What a machine is made of, as far as timings depend on it: GPUs, driver, CUDA, processor, packages.

Its first table is the same from one call to the next; the second also says what the GPUs are busy with now. Neither
holds the name of the machine or a serial number.
"""

import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from benchmarks.report import Table, environment, main

PACKAGES = (
    "ltrsys",
    "nvidia-dali-cuda120",
    "timm",
    "faiss-cpu",
    "faiss-gpu-cu12",
    "pydantic",
    "scikit-learn",
    "pytest",
)
"""Beside those of `benchmarks.report`."""

ASKED = {
    "name": "name",
    "memory.total": "memory",
    "power.limit": "power limit",
    "clocks.max.sm": "highest clock",
    "clocks.max.mem": "highest memory clock",
    "pcie.link.gen.max": "PCIe, generation",
    "pcie.link.width.max": "PCIe, lanes",
    "mig.mode.current": "MIG",
    "memory.used": "memory in use",
    "utilization.gpu": "busy",
    "temperature.gpu": "degrees Celsius",
    "clocks_event_reasons.active": "reasons for a lower clock",
}
"""What nvidia-smi is asked for of each GPU, by its names, and the columns it stands in."""

MACHINE, GPUS = "Machine", "GPUs"


def measure(quick: bool) -> list[Table]:
    """Look at the machine."""
    seen = environment()
    facts: dict[str, Any] = {key: seen[key] for key in ("processor", "cores", "memory_gib", "python")}
    facts["GPUs that torch can use"] = torch.cuda.device_count()
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        facts[f"GPU {number}"] = (
            f"{properties.name}, compute capability {properties.major}.{properties.minor}, "
            f"{properties.total_memory / 2**30:.1f} GiB, {properties.multi_processor_count} multiprocessors"
        )
    if torch.cuda.device_count() > 1:
        facts["GPU 0 reaches GPU 1's memory"] = str(torch.cuda.can_device_access_peer(0, 1)).lower()
    driver = _asked(["driver_version"])
    facts["driver"] = driver[0][0] if driver else None
    facts["CUDA of torch"] = torch.version.cuda
    facts["cuDNN"] = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    facts["NCCL"] = ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else None
    facts["nvcc"] = _nvcc()
    facts |= seen["versions"] | {name: found for name in PACKAGES if (found := _version(name))}
    rows = [{"what": what, "value": value} for what, value in facts.items()]
    gpus = [dict(zip(ASKED.values(), texts, strict=True)) for texts in _gpus()]
    notes = () if gpus else ("nvidia-smi says nothing here.",)
    return [Table(MACHINE, ("what", "value"), rows), Table(GPUS, tuple(ASKED.values()), gpus, notes)]


def _gpus() -> list[list[str]]:
    """Return what nvidia-smi says of each GPU; a driver that does not know one of the questions is asked one by one."""
    if found := _asked(list(ASKED)):
        return found
    columns = [_asked([name]) for name in ASKED]
    return [
        [texts[number][0] if number < len(texts) else "not known" for texts in columns]
        for number in range(max(map(len, columns)))
    ]


def _asked(names: Sequence[str]) -> list[list[str]]:
    lines = _output("nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader").splitlines()
    return [[part.strip() for part in line.split(",")] for line in lines]


def _nvcc() -> str | None:
    return next((line for line in _output("nvcc", "--version").splitlines() if "release" in line), None)


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main("gpu_machine", measure)
