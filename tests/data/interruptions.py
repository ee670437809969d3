"""Readers that stop a build at one image, as a user, a full machine or a crash would."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from ltrsys.data.sources.source import ReadImage


@dataclass(frozen=True)
class StopAt:
    """Reads as `read` does, but sends a signal when `item` comes."""

    read: ReadImage
    item: str
    signal: int
    to_parent: bool = False

    def __call__(self, item: str) -> bytes:
        if item == self.item:
            os.kill(os.getppid() if self.to_parent else os.getpid(), self.signal)
        return self.read(item)


@dataclass(frozen=True)
class Noted:
    """Reads as `read` does, and notes each item in a file."""

    read: ReadImage
    notes: Path

    def __call__(self, item: str) -> bytes:
        with open(self.notes, "a") as file:
            file.write(item + "\n")
        return self.read(item)


@dataclass(frozen=True)
class Dies:
    """A reader whose process is killed, as for lack of memory."""

    def __call__(self, item: str) -> bytes:
        os._exit(9)


def build_and_stop(out: str, item: str, name: str, workers: str) -> None:
    """Build the digits in `out`, stopping at `item`; run in a process of its own."""
    from dataclasses import replace

    from ltrsys.data.shards.building import build_shards
    from ltrsys.data.sources.digits import read_digits
    from ltrsys.data.validation import staging

    staging.WORTH_PROCESSES = 0.0  # else the digits are too few for others
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
    source = read_digits(seed=0)
    reader = StopAt(source.read, item, signal.Signals[name], to_parent=int(workers) > 1)
    build_shards(replace(source, read=reader), Path(out), workers=int(workers))


if __name__ == "__main__":
    import sys

    build_and_stop(*sys.argv[1:])
