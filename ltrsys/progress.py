"""Progress that suits its reader: a bar on a terminal, a log line a minute anywhere else."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("ltrsys")
T = TypeVar("T")

SECONDS_BETWEEN_LINES = 60.0


class Advance(Protocol):
    """What advances a progress display."""

    def __call__(self, count: int = 1, note: str = "") -> None:
        """Report that `count` more steps are done; `note` replaces the text behind the bar."""


@contextmanager
def progress(description: str, total: int, *, shown: bool = True) -> Iterator[Advance]:
    """Show how far a long task is; yields the function that advances it.

    `shown=False` is for ranks other than the first. The bar goes to stderr: stdout is for results.
    """
    if not shown:
        yield lambda count=1, note="": None
    elif sys.stderr.isatty():
        with _bar(description, total) as advance:
            yield advance
    else:
        yield _Lines(description, total)


def track(items: Iterable[T], description: str, total: int, *, shown: bool = True) -> Iterator[T]:
    """Yield `items`, advancing a progress display by one after each."""
    with progress(description, total, shown=shown) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def _bar(description: str, total: int) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as bar:
        task = bar.add_task(description, total=total, note="")

        def advance(count: int = 1, note: str = "") -> None:
            bar.update(task, advance=count)
            if note:
                bar.update(task, note=note)

        yield advance


class _Lines:
    """The display where there is no terminal."""

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total, self.done = description, total, 0
        self.started = self.last_line = time.monotonic()

    def __call__(self, count: int = 1, note: str = "") -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last_line < SECONDS_BETWEEN_LINES:
            return
        self.last_line = now
        remaining = (now - self.started) / max(self.done, 1) * max(self.total - self.done, 0)
        log.info("%s: %d of %d, about %.0f s left %s", self.description, self.done, self.total, remaining, note)
