"""What a server takes on: everything that a client can make large, many or slow has a bound."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

UPLOADS_IN_MEMORY = 16
"""Bodies of the largest size that are in memory at once; of smaller ones, as many as take as much."""
ANSWERING_SLACK = 10.0
"""Seconds that a request may last beyond its upload and its answer: for what is sent back."""


@dataclass(frozen=True)
class Limits:
    """The bounds of a server; `docs/serving.md` says what a client is answered at each."""

    body_bytes: int = 32 * 2**20
    """Of one request, with all its files."""
    files: int = 32
    """Of one request."""
    pixels: int = 64_000_000
    """Of one image: it is refused by its header, before it is decoded."""
    queue: int = 256
    """Images that are uploaded and not yet named."""
    connections: int = 256
    """As many again are told that there are too many; beyond those, none is answered."""
    header_seconds: float = 10.0
    """From when a connection begins, or its last answer ends, to a whole request line with its headers."""
    upload_seconds: float = 60.0
    """From there to the end of the body."""
    answer_seconds: float = 60.0
    """From there to the answer."""

    @property
    def bytes_in_memory(self) -> int:
        """Of all bodies together."""
        return UPLOADS_IN_MEMORY * self.body_bytes

    @property
    def request_seconds(self) -> float:
        """How long one request can last, whatever its client does."""
        return self.upload_seconds + self.answer_seconds + ANSWERING_SLACK


class Refusal(Exception):
    """A request that is not answered as it wishes: the status, and why in one line."""

    def __init__(self, status: int, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after = status, detail, retry_after


class Budget:
    """So much of something that all requests share. For one thread: that of the event loop."""

    def __init__(self, limit: int, exhausted: str) -> None:
        self.limit, self.used = limit, 0
        self._exhausted = exhausted

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left."""
        return self.used >= self.limit

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """Yield what a request takes its part by; all of it is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.used -= share.used

    def refusal(self) -> Refusal:
        """Return what a request is told for which nothing is left."""
        return Refusal(503, self._exhausted, retry_after=1)


class Share:
    """One request's part of a budget."""

    def __init__(self, budget: Budget) -> None:
        self.used = 0
        self._budget = budget

    def take(self, amount: int) -> None:
        """Take more.

        Raises:
            Refusal: Where so much is not left.
        """
        if self._budget.used + amount > self._budget.limit:
            raise self._budget.refusal()
        self._budget.used += amount
        self.used += amount
