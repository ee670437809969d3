"""Connections: how many there may be, and how long one may keep the server waiting."""

import asyncio
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ltrsys.serving.guards.limits import Limits


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer for a connection too many."""
    detail = {"detail": "There are too many connections. Try again in a second."}
    await JSONResponse(detail, 503, headers={"Retry-After": "1", "Connection": "close"})(scope, receive, send)


class LimitedConnection(H11Protocol):
    """One connection of HTTP/1.1.

    uvicorn closes a connection that is idle after an answer. Here one also ends that brings no whole request, that goes
    on sending a body which has been answered already, and whose client does not take its answer.
    """

    limits: Limits
    """Set by `limited`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._in_work = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, as one that is answered, one that is refused, or one of so many that nothing is said any more."""
        super().connection_made(transport)
        if len(self.connections) > 2 * self.limits.connections:
            transport.abort()
            return
        if len(self.connections) > self.limits.connections:
            self.app = refuse
        self._end_after(self.limits.header_seconds)

    def handle_events(self) -> None:
        """Take what has come; a request whose headers have come has more time."""
        super().handle_events()
        in_work = self.cycle is not None and not self.cycle.response_complete
        if in_work and not self._in_work:
            self._end_after(self.limits.request_seconds)
        self._in_work = in_work

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the end of a body that nobody wants."""
        self._in_work = False
        self._end_after(self.limits.header_seconds)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _end_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.transport.abort)


def limited(limits: Limits) -> type[LimitedConnection]:
    """Return the class of connections that keep to some limits, as uvicorn takes it."""
    return type("LimitedConnection", (LimitedConnection,), {"limits": limits})
