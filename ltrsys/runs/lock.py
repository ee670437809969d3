"""One training at a time in a run folder: two would each take the other's checkpoints and metrics for its own."""

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from ltrsys.errors import UsageError
from ltrsys.files import explained
from ltrsys.runs.folder import RunFolder

log = logging.getLogger("ltrsys")

PATIENCE = 100.0
"""Seconds that a lock is waited for: an NFS server keeps that of a lost node for 90."""


@contextmanager
def locked(run: RunFolder, timeout_seconds: float) -> Iterator[None]:
    """Keep other trainings out of the run folder meanwhile. The lock is the kernel's, and goes with its process.

    Args:
        run: The folder, made if need be.
        timeout_seconds: How long the other ranks would wait for this one.

    Raises:
        UsageError: Where another training holds it, and does not end in a while.
        LtrsysError: Where the folder may not be written.
    """
    with explained(run.lock):
        run.path.mkdir(parents=True, exist_ok=True)
        file = open(run.lock, "a+", encoding="utf-8")  # noqa: SIM115 closed below
    with file:
        _acquire(file, run, time.monotonic() + min(PATIENCE, timeout_seconds / 3))
        with explained(run.lock):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield


def _acquire(file: IO[str], run: RunFolder, until: float) -> None:
    """Lock the file, waiting for another training to end for as long as `until`."""
    told = False
    while True:
        try:
            return fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, also between the nodes of an NFS
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return None  # a file system without locks: nobody can be kept out
        file.seek(0)
        holder = file.read() or "another process"
        if time.monotonic() > until:
            raise UsageError(
                f"{run.path}: {holder} is training here. Let it end, or end it, or choose another name for this run."
            )
        if not told:
            log.warning(
                "%s: %s is training here; waiting for a while, in case that it is about to end.", run.path, holder
            )
            told = True
        time.sleep(0.5)
