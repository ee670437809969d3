"""Files of features that several ranks write together."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray


class RowFile:
    """An .npy file that is already of full size, written row by row.

    By position, not through a shared memory map: the rows of ranks on other nodes lie on the same pages.
    """

    def __init__(self, path: Path) -> None:
        rows = np.lib.format.open_memmap(path, mode="r")
        self._header, self._row_bytes = rows.offset, rows.strides[0]
        self._file: IO[bytes] = open(path, "r+b", buffering=0)  # noqa: SIM115 (closed by `close`)

    def write(self, positions: Iterable[int], rows_ND: NDArray[np.float32]) -> None:
        """Write rows, float32 [N, D], at their places."""
        for place, row in zip(positions, rows_ND, strict=True):
            os.pwrite(self._file.fileno(), row.tobytes(), self._header + place * self._row_bytes)

    def sync(self) -> None:
        """Wait until what was written is on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
