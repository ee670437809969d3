"""One rank of a watched group, and what may happen to it."""

import os
import signal
import socket
import sys
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch
import torch.distributed as dist

from ltrsys.cli.main import run_reporting_errors
from ltrsys.errors import DataError
from ltrsys.training.supervision.process_group import process_group
from ltrsys.training.supervision.watchdog import Reached, watched
from ltrsys.world import World

TIMEOUT = 15.0
"""Seconds."""

HOSTS = ["host-a", "host-b", "host-b"]
"""Where the three ranks say that they are."""


def dies(reached: Reached) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stops(reached: Reached) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def ends_with_an_error(reached: Reached) -> None:
    raise DataError("train-000001.tar: truncated.")


def fails(reached: Reached) -> None:
    raise RuntimeError("out of memory\nwith a second line")


def hangs(reached: Reached) -> None:
    threading.Event().wait()


def finishes(reached: Reached) -> None:
    """Leave in order, long before the others."""


def goes_on(reached: Reached) -> None:
    """Go on alone for longer than a silent rank is waited for."""
    threading.Event().wait(TIMEOUT * 0.8)


def waits(reached: Reached) -> None:
    """Wait for the other ranks in a collective that not all of them come to."""
    reached("training step 2")
    dist.all_reduce(torch.ones(1))


def run_watched(rank: int, port: int, ready: Barrier, happens: str, errors: Path) -> None:
    """Be rank `rank` of three that meet at `port`, all cases at once, and do what the function `happens` does."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    # gloo asks the system itself for the host's name, and so meets the others where it really is.
    socket.gethostname = lambda: HOSTS[rank]

    # on a busy machine a process may start later than the others wait for it
    ready.wait()

    def live() -> None:
        world = World(rank, len(HOSTS))
        with process_group(world, TIMEOUT), watched(world, TIMEOUT) as reached:
            reached("training step 1")
            dist.all_reduce(torch.ones(1))
            reached("reading the data of step 2")
            globals()[happens](reached)

    sys.exit(run_reporting_errors(live, debug=False))
