"""Plans made once a node and shared by its ranks as memory-mapped files."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.files import explained

KEPT = 2
"""Plans that stay on disk: this epoch's, and the one before for a rank that is still at its end."""


class PlanCache:
    """A folder on this node's own disk; whichever rank comes first makes a plan, and the others wait for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def get(
        self, name: str, length: int, dtype: np.dtype[np.integer], make: Callable[[NDArray[np.integer]], None]
    ) -> NDArray[np.integer]:
        """Return the plan `name`, read-only, letting `make` fill an array of this length first where it is missing."""
        path = self.folder / f"{name}.npy"
        # A lock of the kernel's goes with its process: a rank that is killed while it holds it blocks nobody.
        with explained(path), open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                beside = path.with_name(f".{name}.partial")
                order = np.lib.format.open_memmap(beside, mode="w+", dtype=dtype, shape=(length,))
                # open_memmap leaves holes; a full disk must be an error now, not a signal at a later write
                os.posix_fallocate(order_file := os.open(beside, os.O_RDWR), 0, beside.stat().st_size)
                os.close(order_file)
                make(order)
                order.flush()
                os.replace(beside, path)
                self._forget_old()
        return np.lib.format.open_memmap(path, mode="r")

    def _forget_old(self) -> None:
        plans = sorted(self.folder.glob("*.npy"), key=lambda plan: plan.stat().st_mtime_ns, reverse=True)
        for plan in plans[KEPT:]:
            plan.unlink()
