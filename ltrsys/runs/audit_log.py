"""A record of what was trained on: which sample stood at which global position, by every rank, as it happened.

Each start of a run is an attempt with a folder of its own, `RUN/audit/attempt-0001/`, with `attempt.json` and one
file of fixed-size rows a rank. Rows after the checkpoint that the next attempt went on from do not count: those
steps were trained again. `ltrsys audit RUN` puts them together.
"""

import os
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ltrsys import __version__
from ltrsys.data.plan.planner import VERSION as PLAN_VERSION
from ltrsys.files import explained, write_json


def row_type(micro_batch_size: int) -> np.dtype[np.void]:
    """Return the type of a row: a micro-batch of one step, its global positions and its sample ids."""
    return np.dtype(
        [
            ("step", "<i8"),
            ("epoch", "<i4"),
            ("positions", "<i8", (micro_batch_size,)),
            ("samples", "<i8", (micro_batch_size,)),
        ]
    )


class AuditLog:
    """Appends the micro-batches of one rank in one attempt."""

    def __init__(self, folder: Path, *, attempt: int, rank: int, micro_batch_size: int) -> None:
        """Open this rank's file of a new attempt.

        Args:
            folder: `RUN/audit`.
            attempt: Counted from 1, the same on all ranks.
            rank: Of this process.
            micro_batch_size: Samples of every row.
        """
        self._type = row_type(micro_batch_size)
        path = attempt_folder(folder, attempt) / f"rank-{rank:05d}.rows"
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = open(path, "wb")  # noqa: SIM115 closed by `close`
        self._path = path

    def add(self, step: int, epoch: int, positions: NDArray[np.int64], samples: NDArray[np.int64]) -> None:
        """Record a micro-batch of a finished step: global positions within the epoch and sample ids, [B] each."""
        row = np.zeros((), self._type)
        row["step"], row["epoch"], row["positions"], row["samples"] = step, epoch, positions, samples
        with explained(self._path):
            self._file.write(row.tobytes())

    def sync(self) -> None:
        """Have everything on disk: called before a checkpoint that counts on it."""
        with explained(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close."""
        with explained(self._path):
            self._file.close()


def attempt_folder(folder: Path, attempt: int) -> Path:
    """Return the folder of one attempt."""
    return folder / f"attempt-{attempt:04d}"


def attempt_folders(folder: Path) -> list[Path]:
    """Return the folders of all attempts that have begun: a full disk may have left one without its facts and rows."""
    found = folder.glob("attempt-" + 4 * "[0-9]")
    return sorted(path for path in found if any(path.glob("[!.]*")))


def begin_attempt(folder: Path, *, first_step: int, world_size: int, micro_batch_size: int, batch_size: int) -> int:
    """Make the folder of the next attempt and return its number; called by the first rank alone."""
    attempt = 1 + max((int(path.name[-4:]) for path in attempt_folders(folder)), default=0)
    facts = {
        "format": 1, "code": __version__, "first_step": first_step, "world_size": world_size,
        "micro_batch_size": micro_batch_size, "batch_size": batch_size, "plan": PLAN_VERSION,
    }  # fmt: skip
    write_json(attempt_folder(folder, attempt) / "attempt.json", facts)
    return attempt
