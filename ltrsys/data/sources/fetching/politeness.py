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
BETWEEN_LOOKS = 0.02
"""Seconds between looks for a connection that is free."""


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
            wait(self._reserve(host))
            yield

    def hold_back(self, host: str, seconds: float) -> None:
        """Have nobody ask `host` for some seconds, since it said so."""
        with self._lock(host, "time") as descriptor:
            now = time.time()
            free = max(self._next_free(descriptor, now), now + min(seconds, LONGEST_WAIT))
            self._write(descriptor, free)

    def _reserve(self, host: str) -> float:
        """Take the next free time; returns how many seconds off it is."""
        with self._lock(host, "time") as descriptor:
            now = time.time()
            free = self._next_free(descriptor, now)
            self._write(descriptor, free + 1 / self.requests_per_second)
        return free - now

    def _next_free(self, descriptor: int, now: float) -> float:
        free = _number(os.pread(descriptor, 64, 0))
        # None is further off than this, unless the clock was set back, which must not stop everything for a day.
        furthest = now + LONGEST_WAIT + self.connections / self.requests_per_second
        return free if now < free <= furthest else now

    def _write(self, descriptor: int, free: float) -> None:
        with explained(self.folder):
            os.pwrite(descriptor, f"{free:<30.6f}".encode(), 0)  # of one length: nothing of a longer one is left

    @contextmanager
    def _connection(self, host: str) -> Iterator[None]:
        """Hold one of the connections."""
        with self._lock(host, "queue"):  # one looks for a connection that is free, and the others wait behind it
            while (descriptor := self._free_connection(host)) is None:
                wait(BETWEEN_LOOKS)
        try:
            yield
        finally:
            os.close(descriptor)

    def _free_connection(self, host: str) -> int | None:
        for number in range(self.connections):
            path = self._file(host, f"connection{number}")
            with explained(path):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return descriptor
        return None

    @contextmanager
    def _lock(self, host: str, what: str) -> Iterator[int]:
        path = self._file(host, what)
        with explained(path), locked_file(path) as descriptor:
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
