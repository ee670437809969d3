"""How often a server is asked, and how much at a time, over all processes that fetch from it."""

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ltrsys.files import explained, locked_file

LONGEST_WAIT = 600.0
"""Seconds that are waited for a server at most."""


@dataclass(frozen=True)
class Politeness:
    """Turns at asking a server. Processes agree on them by locked files, so that one that is killed blocks nobody."""

    folder: Path
    """Where the files are."""
    connections: int = 4
    """Requests that one server has to answer at a time."""
    requests_per_second: float = 10.0
    """Requests that one server gets in a second."""

    @contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """Wait until `host` may be asked; the block is the request.

        Raises:
            LtrsysError: Where the files cannot be written.
        """
        with self._connection(host):
            wait(self._reserve(host, 1 / self.requests_per_second))
            yield

    def hold_back(self, host: str, seconds: float) -> None:
        """Have nobody ask `host` for some seconds, since it said so."""
        self._reserve(host, min(seconds, LONGEST_WAIT))

    def _reserve(self, host: str, seconds: float) -> float:
        """Take the next free time, and the seconds after it; returns how far off it is."""
        with self._lock(host, "time") as descriptor:
            now = time.time()
            free = _number(os.pread(descriptor, 64, 0))
            # A clock that was set back must not stop everything for a day.
            free = free if now < free < now + 2 * LONGEST_WAIT else now
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, repr(free + seconds).encode(), 0)
        return free - now

    @contextmanager
    def _connection(self, host: str) -> Iterator[None]:
        """Hold one of the connections."""
        for number in range(self.connections):
            path = self._file(host, f"connection{number}")
            with explained(path):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            try:
                yield
            finally:
                os.close(descriptor)
            return
        # All are taken: wait for one of them. Processes differ in which, so that they do not all wait for the same.
        with self._lock(host, f"connection{os.getpid() % self.connections}"):
            yield

    @contextmanager
    def _lock(self, host: str, what: str) -> Iterator[int]:
        with locked_file(self._file(host, what)) as descriptor:
            yield descriptor

    def _file(self, host: str, what: str) -> Path:
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{re.sub('[^a-z0-9.-]', '_', host.lower())[:200]}.{what}"


def wait(seconds: float) -> None:
    """Wait; a function of its own so that tests need not."""
    if seconds > 0:
        time.sleep(seconds)


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
