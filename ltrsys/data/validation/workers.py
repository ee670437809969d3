"""Processes that share a list of independent tasks, and leave nothing half done."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, Protocol, TypeVar

from ltrsys.errors import LtrsysError
from ltrsys.registry import load_plugin, loaded_plugins

T = TypeVar("T")


class RunTasks(Protocol):
    """Runs a function on the arguments of each task."""

    def __call__(self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> Iterator[T]:
        """Yield the results in the order of the tasks; the first failure ends the iteration."""


@contextmanager
def run_tasks(workers: int) -> Iterator[RunTasks]:
    """Start `workers` processes, or none for 1: the tasks then run in this one.

    However the block ends, tasks that are running are finished first and tasks that wait are dropped.

    Raises:
        LtrsysError: Where a process died.
    """
    if workers == 1:
        yield run_here
        return
    # Not forked: a fork of a process with threads, such as torch's or DALI's, can hang.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(loaded_plugins(),))

    def run(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> Iterator[T]:
        for future in [executor.submit(function, *task) for task in tasks]:
            yield future.result()

    try:
        yield run
    except BrokenProcessPool:
        raise LtrsysError(
            "A worker process died, perhaps for lack of memory. Run the same command again with fewer --workers; "
            "what was finished is kept."
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def run_here(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> Iterator[T]:
    """Run the tasks in this process: a new one takes a second to start."""
    for task in tasks:
        yield function(*task)


def _start_worker(plugins: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides
    for plugin in plugins:
        load_plugin(plugin)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
