"""How long a device has waited for data."""

import time
from collections import deque

import torch


class StallClock:
    """Adds up the time between the end of the work that a device has been given and the arrival of more.

    On a CPU that is the time for which the caller is kept. A GPU goes on meanwhile with what is queued; its time is
    measured by events in its queue, one behind all that it was given before, one behind the batch that came.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None
        self._seconds = 0.0
        self._began = 0.0
        self._event: torch.cuda.Event | None = None
        self._pairs: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    def begin(self) -> None:
        """Data is asked for."""
        self._began = time.perf_counter()
        self._event = self._now()

    def end(self) -> None:
        """It has come, or will have where the device's queue has got to here."""
        end = self._now()
        if self._event is not None and end is not None:
            self._pairs.append((self._event, end))
        else:
            self._seconds += time.perf_counter() - self._began

    @property
    def seconds(self) -> float:
        """What is known so far: on a GPU, up to where it has got."""
        while self._pairs and self._pairs[0][1].query():
            begin, end = self._pairs.popleft()
            self._seconds += begin.elapsed_time(end) / 1000
        return self._seconds

    def _now(self) -> torch.cuda.Event | None:
        if self._device is None:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
