"""What a signal asks of a run, agreed upon by all ranks at the same step.

SIGUSR1 asks for a checkpoint; SIGTERM (a scheduler's preemption) and SIGINT (Ctrl-C) for a checkpoint and an end. A
second SIGINT ends at once.
"""

import signal
import time
from collections import deque
from enum import IntEnum
from types import FrameType

import torch
import torch.distributed as dist

from ltrsys.errors import LtrsysError
from ltrsys.training.supervision.host_copy import HostCopy
from ltrsys.world import World

LAG_STEPS = 1
"""Steps after which an agreement is read: read in the step that began it, it would hold up the GPU.

`ltrsys.data.loading.loader.LOOK_AHEAD_STEPS` follows from it."""


class Request(IntEnum):
    """What is asked for; the higher number wins."""

    NOTHING = 0
    SAVE = 1
    STOP = 2
    FAIL = 3
    """Save and end, since a rank has met data that it cannot train on."""


class Stopped(LtrsysError):
    """The run has saved its state and ends, as a signal asked it to."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number
        """Of the signal."""
        self.exit_code = 128 + number


SIGNALS = {signal.SIGUSR1: Request.SAVE, signal.SIGTERM: Request.STOP, signal.SIGINT: Request.STOP}


class Requests:
    """Takes signals while it is open, and asks for a checkpoint every so many minutes."""

    def __init__(self, world: World, device: torch.device, *, minutes: float | None) -> None:
        """Take over the signals; only the main thread may.

        Args:
            world: The ranks that have to agree.
            device: Where their agreement is reached.
            minutes: Between checkpoints asked for by the first rank's clock; None for never.
        """
        self._world, self._minutes = world, minutes
        self._own = Request.NOTHING
        self.signal = int(signal.SIGTERM)
        """The number of the last signal that asked for an end."""
        self._saved = time.monotonic()
        self._pending: deque[HostCopy] = deque()
        """Agreements of the last `LAG_STEPS` steps, the oldest first."""
        self._flag = torch.zeros(1, device=device)
        self._before = {number: signal.signal(number, self._note_signal) for number in SIGNALS}

    def agreed(self) -> Request:
        """Return what any rank has asked for until `LAG_STEPS` ago; every rank calls this after every step."""
        asked = self._own
        if self._world.is_main and self._minutes and time.monotonic() - self._saved > 60 * self._minutes:
            asked = max(asked, Request.SAVE)
        if self._world.world_size == 1:
            return asked
        self._pending.append(HostCopy(self._highest(asked)))
        if len(self._pending) <= LAG_STEPS:
            return Request.NOTHING
        return Request(int(self._pending.popleft().read()[0]))

    def agreed_at_once(self) -> Request:
        """Return what any rank asks for now, waiting for all of them."""
        if self._world.world_size == 1:
            return self._own
        return Request(int(self._highest(self._own)[0]))

    def _highest(self, asked: Request) -> torch.Tensor:
        """Return the highest of what the ranks ask, [1], on the device."""
        # Filling what is there: a tensor made of a Python number would be copied there, after all that goes on there.
        self._flag.fill_(float(asked))
        dist.all_reduce(self._flag, dist.ReduceOp.MAX)
        return self._flag

    def fail(self) -> None:
        """Ask for an end of all ranks, since this one cannot go on for long."""
        self._own = Request.FAIL

    def granted(self) -> None:
        """Forget what was asked for, and the agreements on it, since a checkpoint has been made."""
        self._saved = time.monotonic()
        self._pending.clear()
        if self._own is Request.SAVE:
            self._own = Request.NOTHING

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._own >= Request.STOP:
            raise KeyboardInterrupt
        self._own = max(self._own, SIGNALS[signal.Signals(number)])
        if self._own is Request.STOP:
            self.signal = number
