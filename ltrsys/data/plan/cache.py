"""Plans made once a node and shared by its ranks as memory-mapped files."""

import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.errors import LtrsysError
from ltrsys.files import explained, locked_file

KEPT = 2
"""Plans of a run that stay on disk: this epoch's, and the one before for a rank that is still at its end."""


class PlanCache:
    """A folder on this node's own disk; whichever rank comes first makes a plan, and the others wait for it.

    Each run has a folder of its own in it, which goes when no process of the run is left.
    """

    _in_use = -1

    def __init__(self, folder: Path, run: str) -> None:
        """Take the part of a run.

        Args:
            folder: Of this user alone, since what is in it is believed.
            run: Names all that the run's plans depend on, but for the epoch.

        Raises:
            LtrsysError: Where the folder is, or may be written by, somebody else's.
        """
        self.folder = folder / run
        with explained(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_own(folder)
            with locked_file(folder / "lock"):
                self.folder.mkdir(exist_ok=True)
                # A lock of the kernel's goes with its process: what nobody holds belongs to a run that has ended.
                self._in_use = os.open(self.folder / "in_use", os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._in_use, fcntl.LOCK_SH)
                self._forget_runs(folder)

    def get(
        self, name: str, length: int, dtype: np.dtype[np.integer], make: Callable[[NDArray[np.integer]], None]
    ) -> NDArray[np.integer]:
        """Return the plan `name`, read-only, letting `make` fill an array of this length first where it is missing."""
        path = self.folder / f"{name}.npy"
        # A rank that is killed while it holds the lock blocks nobody.
        with explained(path), locked_file(self.folder / "lock"):
            order = _open_plan(path, length, dtype)
            if order is None:
                beside = path.with_name(f".{name}.partial")
                order = np.lib.format.open_memmap(beside, mode="w+", dtype=dtype, shape=(length,))
                # open_memmap leaves holes; a full disk must be an error now, not a signal at a later write
                os.posix_fallocate(order_file := os.open(beside, os.O_RDWR), 0, beside.stat().st_size)
                os.close(order_file)
                make(order)
                order.flush()
                os.replace(beside, path)
                self._forget_old()
                order = np.lib.format.open_memmap(path, mode="r")
        return order

    def close(self) -> None:
        """Let the plans go, once no other process of the run needs them."""
        if self._in_use >= 0:
            os.close(self._in_use)
            self._in_use = -1

    __del__ = close

    def _forget_old(self) -> None:
        plans = sorted(self.folder.glob("*.npy"), key=lambda plan: plan.stat().st_mtime_ns, reverse=True)
        for plan in plans[KEPT:]:
            plan.unlink()

    def _forget_runs(self, folder: Path) -> None:
        for other in folder.iterdir():
            if other == self.folder or not other.is_dir():
                continue
            with suppress(OSError):  # in use, or just gone
                in_use = os.open(other / "in_use", os.O_RDWR)
                try:
                    fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(other)
                finally:
                    os.close(in_use)


def _open_plan(path: Path, length: int, dtype: np.dtype[np.integer]) -> NDArray[np.integer] | None:
    """Open a plan; None where there is none, or what is there is not whole."""
    try:
        order = np.lib.format.open_memmap(path, mode="r")
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return order if order.shape == (length,) and order.dtype == dtype else None


def _require_own(folder: Path) -> None:
    state = folder.stat()
    if state.st_uid != os.getuid() or state.st_mode & 0o022:
        raise LtrsysError(
            f"{folder}: others may write here, and the order of the samples is read from it. Remove the folder, or set "
            "TMPDIR to one that is yours."
        )
