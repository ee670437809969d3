"""The processes of a run: their device, their threads, and how they reach one another."""

import logging
import math
import os
import random
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist

from ltrsys.device import choose_device
from ltrsys.errors import LtrsysError
from ltrsys.section import DeviceName
from ltrsys.training.supervision.requests import Stopped
from ltrsys.world import World

_PORTS = range(10_000, 32_000)
"""A port of those that the system lends, 32768 and more, may be lent again before it is listened at."""
_LONGEST_PATIENCE = 1_000_000
"""Seconds, since torch counts them as milliseconds in 32 bits."""


@contextmanager
def process_group(world: World, timeout_seconds: float, wanted: DeviceName = "auto") -> Iterator[torch.device]:
    """Join the ranks, by NCCL on GPUs and gloo elsewhere; yields the device of this one.

    A collective that takes `timeout_seconds` ends the run; `watched` knows whose fault it is, and has that time to say
    so before torch's own watchdog over NCCL ends the process. Without a launcher the process is alone.

    Raises:
        LtrsysError: Where the ranks do not meet in that time, or have no GPU where there should be one.
    """
    device = choose_device(wanted, world)
    _share_cores(world, device)
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    environment = _launcher(world) | (_patience_with_nccl(timeout_seconds) if device.type == "cuda" else {})
    with _completed_environment(environment):
        try:
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                rank=world.rank,
                world_size=world.world_size,
                timeout=timedelta(seconds=timeout_seconds),
                device_id=device if device.type == "cuda" else None,
            )
        except RuntimeError as error:
            place = f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT')}"
            raise LtrsysError(
                f"rank {world.rank} on {socket.gethostname()}: the {world.world_size} ranks did not meet at {place} "
                f"within {timeout_seconds:g} s ({str(error).splitlines()[0].rstrip('.')}). Start all of them, with the "
                "same MASTER_ADDR and MASTER_PORT, on hosts that reach that address."
            ) from error
        try:
            yield device
        except Stopped:  # by all ranks after the same step
            dist.destroy_process_group()
            raise
        except BaseException:
            _leave_the_others(device)
            raise
        dist.destroy_process_group()


def _leave_the_others(device: torch.device) -> None:
    """Give the group up without waiting for a collective that the other ranks may never finish."""
    if device.type == "cuda":
        # NCCL's destruction waits for what is under way, without end where a partner is gone.
        torch.distributed.distributed_c10d._abort_process_group()
    else:
        dist.destroy_process_group()


def _launcher(world: World) -> dict[str, str]:
    """Return what a launcher would have exported: DeepSpeed looks for MPI where one of these is missing."""
    launcher = {
        "RANK": str(world.rank),
        "WORLD_SIZE": str(world.world_size),
        "LOCAL_RANK": str(world.local_rank),
        "MASTER_ADDR": "127.0.0.1",
    }
    if world.world_size == 1:
        launcher["MASTER_PORT"] = str(free_port())
    return launcher


def _patience_with_nccl(timeout_seconds: float) -> dict[str, str]:
    """Return what has torch's watchdog wait for `timeout_seconds` after a failure, as long as `watched` takes at most.

    It finds out that a partner is gone before `watched` knows which, and ends the process by SIGABRT and pages of stack
    traces. Before that it sleeps for four times the first of these, 60 s by default; and for the second a thread that
    watches torch's watchdog. They are only made longer, so that torch still ends a rank that `watched` does not.
    """
    seconds = min(math.ceil(timeout_seconds), _LONGEST_PATIENCE)
    return {
        "TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC": str(max(15_000, 250 * seconds)),
        "TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC": str(max(480, seconds)),
    }


@contextmanager
def _completed_environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Export meanwhile those of the variables that are not set."""
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def free_port() -> int:
    """Return a port of this host that nothing listens at now, of those that Linux does not lend to clients."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port


def _share_cores(world: World, device: torch.device) -> None:
    """Divide the cores among the ranks of this node: each takes all of them otherwise, and they trip over another."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world.local_world_size))
