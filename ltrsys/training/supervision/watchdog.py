"""Ends a rank that would wait for ever, and names the one that it waits for.

gloo and NCCL tell that a collective took too long, but not because of whom. So every rank tells the rendezvous store,
every second or two, that it lives and where its training loop is (`heartbeat`). The first rank reads all of that and
publishes what it concludes. Whoever cannot read from it any more is cut off from its host, and names that.

Two threads, because talking to a store whose host has gone blocks: one talks, the other looks at the clock. Both go on
while the main thread waits in a collective or for a GPU, and end the process without it.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from ltrsys.errors import LtrsysError
from ltrsys.training.supervision.heartbeat import FailureDetector, Heartbeat, Limits, named, silent_for
from ltrsys.training.supervision.requests import Stopped
from ltrsys.world import World

Reached = Callable[[str], None]
"""Tells which place of the training loop this rank has come to: `training step 17`."""

LastCall = Callable[[str], object]
"""Gets the line that this process ends with, in a thread of its own, and a few seconds to tell somebody."""

SECONDS_OF_LAST_CALL = 5.0


@contextmanager
def watched(world: World, timeout_seconds: float, last_call: LastCall = lambda verdict: None) -> Iterator[Reached]:
    """Watch the ranks of a process group meanwhile; yields what the training loop calls in every place.

    The process ends with exit code 1 and one line on stderr, within `timeout_seconds`, where a rank is silent (dead,
    stopped, cut off), has ended with an error, or keeps the others waiting; `last_call` is told before it. A rank alone
    is not watched.

    Raises:
        LtrsysError: Where communication failed although every rank is alive.
    """
    if world.world_size == 1:
        yield lambda doing: None
        return
    watchdog = Watchdog(world, timeout_seconds, last_call)
    try:
        yield watchdog.reached
    except Stopped:
        raise  # all ranks do so together
    except RuntimeError as error:
        # gloo's errors have no type of their own. This may be another rank's end: then it is known in a moment.
        watchdog.wait_for_verdict()
        watchdog.leave(error)
        raise LtrsysError(
            f"rank {world.rank} on {socket.gethostname()}: {_first_line(error)} The same command goes on from the last "
            "checkpoint; --debug shows the traceback."
        ) from error
    except BaseException as error:
        watchdog.leave(error)
        raise
    finally:
        watchdog.close()


class Watchdog:
    """Tells the other ranks that this one lives, and ends it when another one does not."""

    def __init__(self, world: World, timeout_seconds: float, last_call: LastCall = lambda verdict: None) -> None:
        """Begin to watch; called by all ranks together, after they have met at MASTER_ADDR and MASTER_PORT."""
        self._last_call = last_call
        self._world, self._limits = world, Limits.within(timeout_seconds)
        # A connection of its own: the process group's may be busy waiting.
        self._address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        client = dist.TCPStore(
            *self._address, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=timeout_seconds)
        )
        # torchrun's store outlives the ranks that it starts again.
        self._store = dist.PrefixStore(f"watchdog/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", client)
        self._heartbeat = Heartbeat(0)
        self._hosts = self._exchange_hosts()
        self._detector = FailureDetector(self._hosts, self._limits, time.monotonic()) if world.is_main else None
        self._last_answer = time.monotonic()
        """When the first rank last told something new; on the first rank, when the store last answered."""
        self._bulletin_count = -1
        """Count of the bulletin that was read last."""
        self._lock = threading.Lock()
        self._closing, self._wake = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._talk, "heartbeat"), (self._look_at_the_clock, "watchdog"))
        ]
        for thread in self._threads:
            thread.start()

    def reached(self, doing: str) -> None:
        """Take note of the place that the training loop has come to; all ranks come to the same ones in turn."""
        with self._lock:
            self._heartbeat = Heartbeat(self._heartbeat.count, self._heartbeat.milestone + 1, doing)

    def wait_for_verdict(self) -> None:
        """Have the ranks looked through quickly, since communication failed; returns if every one is alive."""
        self._change(connected=False)
        # A heartbeat to tell it, five to miss those of the dead, two for the first rank's wait before it ends.
        time.sleep(10 * self._limits.interval)

    def leave(self, error: BaseException) -> None:
        """Have `close` tell the others what this rank ends with."""
        self._change(last_words=_first_line(error))

    def close(self) -> None:
        """Watch no more. A thread that is blocked by a dead store stays behind, and ends with the process."""
        self._change(finished=True)
        self._closing.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(4 * self._limits.interval)

    def _exchange_hosts(self) -> list[str]:
        self._store.set(f"host/{self._world.rank}", socket.gethostname())
        self._store.set(f"beat/{self._world.rank}", self._heartbeat.encode())
        if self._world.is_main:
            names = self._store.multi_get([f"host/{rank}" for rank in range(self._world.world_size)])
            self._store.set("hosts", json.dumps([name.decode() for name in names]))
            self._publish(self._heartbeat, None)
        return json.loads(self._store.get("hosts"))

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self._heartbeat = replace(self._heartbeat, **changes)

    def _talk(self) -> None:
        """Send heartbeats and listen until `close`; where the store has gone, `_look_at_the_clock` decides."""
        with suppress(RuntimeError):
            while not self._closing.is_set():
                self._exchange()
                self._wake.wait(self._limits.interval)
                self._wake.clear()
            self._exchange()
            # The first rank takes the store along: it leaves the others a moment to read from it.
            until = time.monotonic() + 2 * self._limits.interval
            while self._detector and not self._detector.all_have_left() and time.monotonic() < until:
                time.sleep(self._limits.interval / 10)
                self._exchange()

    def _exchange(self) -> None:
        with self._lock:
            self._heartbeat = replace(self._heartbeat, count=self._heartbeat.count + 1)
            own = self._heartbeat
        self._store.set(f"beat/{self._world.rank}", own.encode())
        verdict = self._detect(own) if self._detector else self._read_bulletin()
        if verdict and not own.finished:
            if self._detector:
                time.sleep(2 * self._limits.interval)  # the others read it from this process's store
            self._end(verdict)

    def _detect(self, own: Heartbeat) -> str | None:
        """Take in the heartbeats of all ranks and publish what follows; the first rank's part."""
        assert self._detector
        beats = self._store.multi_get([f"beat/{rank}" for rank in range(self._world.world_size)])
        self._last_answer = time.monotonic()
        self._detector.update([Heartbeat.decode(beat) for beat in beats], self._last_answer)
        verdict = self._detector.verdict()
        if own.last_words:
            verdict = f"rank 0 on {self._hosts[0]} has ended: {own.last_words}"
        self._publish(own, verdict)
        return verdict

    def _publish(self, own: Heartbeat, verdict: str | None) -> None:
        bulletin = {"count": own.count, "over": own.finished and not verdict, "verdict": verdict}
        self._store.set("bulletin", json.dumps(bulletin))

    def _read_bulletin(self) -> str | None:
        """Return what the first rank has concluded."""
        bulletin = json.loads(self._store.get("bulletin"))
        if bulletin["count"] != self._bulletin_count:
            self._bulletin_count, self._last_answer = bulletin["count"], time.monotonic()
        if bulletin["over"]:
            self._closing.set()
        return bulletin["verdict"]

    def _look_at_the_clock(self) -> None:
        """End the process when nothing has come from the first rank for too long."""
        limits, looked = self._limits, time.monotonic()
        while not self._closing.wait(limits.interval / 2):
            now = time.monotonic()
            if now - looked > 2 * limits.interval:
                self._last_answer += now - looked  # this process itself was stopped
            looked = now
            limit = limits.silent if self._heartbeat.connected else limits.silent_once_disconnected
            if now - self._last_answer > limit and not self._heartbeat.finished:
                self._end(self._first_rank_is_silent(now - self._last_answer))

    def _first_rank_is_silent(self, seconds: float) -> str:
        rank = self._world.rank
        # Whose host is cut off is silent altogether; of its own host a rank knows better.
        ranks = [one for one, host in enumerate(self._hosts) if host == self._hosts[0]]
        if rank in ranks:
            ranks = [0]
        if rank == 0:
            return (
                f"the rendezvous store at {self._address[0]}:{self._address[1]} has not answered for {seconds:.0f} s."
            )
        silence = silent_for(ranks, self._hosts, seconds)
        return f"{silence}: {named([rank], self._hosts)} cannot reach the rendezvous store there."

    def _end(self, verdict: str) -> None:
        """End the process at once: its main thread may be waiting where nothing can interrupt it."""
        if self._closing.is_set():
            return
        print(
            f"ltrsys: {verdict} Rank {self._world.rank} ends here; the same command goes on from the last checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        teller = threading.Thread(target=self._last_call, args=(verdict,), name="last call", daemon=True)
        teller.start()
        teller.join(SECONDS_OF_LAST_CALL)
        os._exit(LtrsysError.exit_code)


def _first_line(error: BaseException) -> str:
    line = (str(error) or type(error).__name__).splitlines()[0].strip()
    return line if line.endswith((".", "!", "?")) else f"{line}."
