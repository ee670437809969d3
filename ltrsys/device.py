"""The device of a process: chosen, checked against what should be there, set up for speed, and told."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ltrsys.errors import LtrsysError
from ltrsys.section import DeviceName
from ltrsys.world import World

NEEDED_DRIVER = {"13": 580, "12": 525}
"""The first release of NVIDIA's Linux driver that runs the CUDA of a torch, by that CUDA's major version."""


def choose_device(wanted: DeviceName, world: World) -> torch.device:
    """Return this rank's GPU, or the CPU; make the GPU the current one.

    Args:
        wanted: `auto` is the GPU where there is one, and the CPU of a machine that has none.
        world: Its local rank is the number of the GPU.

    Raises:
        LtrsysError: Where a GPU is wanted or should be there, and torch can use none.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        evidence = "train.device=cuda asks for one" if wanted == "cuda" else _evidence_of_a_gpu()
        if evidence is None:
            return torch.device("cpu")
        raise LtrsysError(_no_gpu(world, evidence))
    if world.local_rank >= (found := torch.cuda.device_count()):
        raise LtrsysError(
            f"rank {world.rank} on {socket.gethostname()}: asks for GPU {world.local_rank}, and {found} can be seen "
            "here. Start one process a GPU."
        )
    device = torch.device("cuda", world.local_rank)
    torch.cuda.set_device(device)
    return device


def set_up_gpu(device: torch.device, *, cudnn_benchmark: bool, tf32: bool) -> None:
    """Set how cuDNN and cuBLAS compute on `device`; nothing on a CPU.

    Args:
        device: Of this process.
        cudnn_benchmark: Try every convolution's algorithms at its first call, and keep the fastest.
        tf32: Compute float32 products and convolutions in TensorFloat-32, with 10 bits of mantissa.
    """
    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = cudnn_benchmark
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32


def describe_device(device: torch.device) -> str:
    """Return what there is to say of a device: its name and driver, or the threads of a CPU."""
    if device.type != "cuda":
        threads = torch.get_num_threads()
        return f"CPU ({threads} thread{'s' if threads != 1 else ''} a rank)"
    driver = _driver()
    return f"{torch.cuda.get_device_name(device)} (driver {driver})" if driver else torch.cuda.get_device_name(device)


@contextmanager
def on_one_thread(device: torch.device) -> Iterator[None]:
    """Have torch use the calling thread alone meanwhile, on a CPU.

    For small operations beside threads that decode: where these hold all cores, torch's own wait longer for one another
    than one of them would work.
    """
    if device.type != "cpu":
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def within_memory(images: int, rank: int, advice: str) -> Iterator[None]:
    """Tell what to do where the memory of a GPU does not hold so many images at once.

    Args:
        images: That go through the network at once.
        rank: Of this process.
        advice: What to do.

    Raises:
        LtrsysError: Where it does not.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        why = str(error).split(". ")[0].splitlines()[0].rstrip(".")
        raise LtrsysError(
            f"rank {rank}: the GPU's memory does not hold {images} images at once ({why}). {advice}"
        ) from error


def _evidence_of_a_gpu() -> str | None:
    """Return why there should be a GPU here; None where nothing says so, or where GPUs are hidden on purpose."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return None
    if os.environ.get("SLURM_GPUS_ON_NODE", "0") != "0":
        return "SLURM has given this job GPUs (SLURM_GPUS_ON_NODE)"
    # The first is missing in a container that was given no GPU; what the kernel says of its driver is there, too.
    if Path("/dev/nvidiactl").exists() or _driver():
        return "NVIDIA's driver is loaded"
    return None


def _no_gpu(world: World, evidence: str) -> str:
    """Say that there is no GPU, why there should be, and what to do."""
    built_for = torch.version.cuda
    if built_for is None:
        reason = f"this torch {torch.__version__} is built without CUDA: install one that has it."
    else:
        needed = NEEDED_DRIVER.get(built_for.split(".")[0])
        driver = _driver()
        here = f"{driver} is loaded here" if driver else "none can be seen here"
        reason = f"torch {torch.__version__} is built for CUDA {built_for}"
        reason += f", which needs NVIDIA's driver {needed} or later ({here}). " if needed else f" (driver: {here}). "
        reason += "A container needs --gpus all, a SLURM step its part of the job's GPUs."
    return (
        f"rank {world.rank} on {socket.gethostname()}: torch finds no GPU, and {evidence}. {reason} To compute on the "
        "CPU all the same, give train.device=cpu."
    )


def _driver() -> str | None:
    """Return the release of NVIDIA's driver that the kernel has loaded."""
    try:
        first_line = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return None
    # NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build ...
    return next((word for word in first_line.split() if word.replace(".", "").isdigit() and "." in word), None)
