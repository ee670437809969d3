"""The server process: its port, its signals, its beginning and its end."""

import logging
import math
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from ltrsys.errors import UsageError
from ltrsys.serving.guards.connections import limited
from ltrsys.serving.guards.limits import Limits

BACKLOG = 128
"""Connections that are accepted at once, before those too many are ended."""
OTHER_FILES = 256
"""Shards, and what libraries have open."""


def listen(host: str, port: int) -> socket.socket:
    """Take a port, 0 for any that is free; who connects waits until a server answers.

    Raises:
        UsageError: Where the port is taken, or the host is none of this machine's.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio sets TCP_NODELAY where the protocol is stated alone; without it, answers wait 40 ms for an
        # acknowledgement
        taken = socket.socket(family, kind, socket.IPPROTO_TCP)
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
            taken.listen(BACKLOG)
        except OSError:
            taken.close()
            raise
    except OSError as error:
        raise UsageError(
            f"--host {host} --port {port}: no server can be started there ({error.strerror}). Give another port, or "
            "--port 0 for any that is free."
        ) from None
    return taken


def address_of(taken: socket.socket) -> str:
    """Return the URL of a server there."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def make_room_for(limits: Limits) -> None:
    """Allow this process as many open files as there may be connections.

    Raises:
        UsageError: Where this machine does not.
    """
    needed = 2 * limits.connections + BACKLOG + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            most = (hard - BACKLOG - OTHER_FILES) // 2
            raise UsageError(
                f"--connections {limits.connections}: a process may have {hard} open files here (ulimit -Hn), and "
                f"that takes {needed}. Give at most {max(most, 1)}."
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Server(uvicorn.Server):
    """uvicorn, which says when it is ready, and for which a signal is a good end."""

    def __init__(self, app: FastAPI, limits: Limits, *, ready: Callable[[], None], access_log: bool = False) -> None:
        """Configure it.

        Args:
            app: What answers.
            limits: Of connections and time.
            ready: Called once it answers.
            access_log: Whether to log a line a request.
        """
        super().__init__(
            uvicorn.Config(
                app,
                http=limited(limits),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level=logging.ERROR,
                access_log=access_log,
                server_header=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=math.ceil(limits.request_seconds),
            )
        )
        self._ready = ready
        if access_log:
            logging.getLogger("uvicorn.access").setLevel(logging.INFO)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._ready()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer until SIGINT or SIGTERM comes; then finish what is in work. A second SIGINT ends that, too."""
        with _signals_are_done():
            super().run(sockets)


@contextmanager
def _signals_are_done() -> Iterator[None]:
    """Let nothing follow when uvicorn, at its end, raises the signals anew that it has ended for."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
