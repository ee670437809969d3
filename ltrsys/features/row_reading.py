"""Rows of the bank in any order, for gradient descent: a step shall not wait for them, wherever the bank lies.

Copied     a GPU that has room keeps a copy of all rows
Mapped     memory holds the file: it is asked for in one piece, then rows come from the system's cache
Read ahead neither: threads read the rows of the next batches while a step computes
"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.errors import DataError
from ltrsys.features.bank import BankSplit, give_back
from ltrsys.memory import available_memory

SHARE_OF_A_GPU = 0.5
"""Part of a GPU's free memory that a copy of a split's features may take."""

SHARE_OF_MEMORY = 0.5
"""Part of the memory that is available that a file may fill as the system's cache."""

GIVEN_BACK_AFTER = 32 * 2**20
"""Bytes of single rows; with each, the operating system maps up to 64 KiB around it."""

READERS = 8
"""Threads that read ahead: a disk is faster where it is asked for several rows at once."""

BATCHES_AHEAD = 8
"""As many batches are kept in memory before they are needed."""

ASKED_AT_ONCE = 128 * 2**10
"""Bytes. Linux reads no more than a device's read-ahead, 128 KiB by default, for one request."""


class RowReader(Protocol):
    """Gives the features, float32 [k, D], and labels, int64 [k], of any rows, on a device."""

    def rows(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return those of k rows.

        Raises:
            DataError: Where the file is damaged.
        """
        ...

    def batches(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield those of one batch of rows after another; as `rows`, but may read later ones before.

        Raises:
            DataError: Where the file is damaged.
        """
        ...


def row_reader(split: BankSplit, device: torch.device) -> RowReader:
    """Return what reads rows of a split fastest where it lies."""
    if device.type == "cuda" and split.features.nbytes <= SHARE_OF_A_GPU * torch.cuda.mem_get_info(device)[0]:
        return CopiedRows(split, device)
    path = getattr(split.features, "filename", None)  # of a numpy.memmap
    if path is None:
        return MappedRows(split, device)
    if device.type == "cuda" or split.features.nbytes > SHARE_OF_MEMORY * available_memory():
        return RowsReadAhead(split, Path(path), device)
    threading.Thread(target=bring_to_cache, args=(Path(path),), daemon=True).start()
    return MappedRows(split, device)


class CopiedRows:
    """Rows of a copy of the whole split, on a device."""

    def __init__(self, split: BankSplit, device: torch.device) -> None:
        """Copy it."""
        self._device = device
        self._features = torch.empty(split.features.shape, dtype=torch.float32, device=device)
        first = 0
        for block, _ in split.blocks(device):
            self._features[first : first + len(block)] = block
            first += len(block)
        self._labels = torch.from_numpy(split.labels).to(device)

    def rows(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """See RowReader."""
        place = torch.from_numpy(rows).to(self._device)
        return self._features[place], self._labels[place]

    def batches(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[tuple[Tensor, Tensor]]:
        """See RowReader."""
        return map(self.rows, batches)


class MappedRows:
    """Rows of an array in memory, or of a file that is mapped; the memory of those that were read is given back."""

    def __init__(self, split: BankSplit, device: torch.device) -> None:
        """Read nothing yet."""
        self._split, self._device = split, device
        self._row_bytes = split.features.nbytes // max(1, len(split))
        self._read_bytes = 0

    def rows(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """See RowReader."""
        found = self._split.rows(rows, self._device)
        self._read_bytes += len(rows) * self._row_bytes
        if self._read_bytes >= GIVEN_BACK_AFTER:
            give_back(self._split.features)
            self._read_bytes = 0
        return found

    def batches(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[tuple[Tensor, Tensor]]:
        """See RowReader."""
        return map(self.rows, batches)


class RowsReadAhead:
    """Rows that threads read from the file, into pinned memory where a GPU waits for them.

    By `pread`, of which the system reads no more than the rows: around a row of a mapped file it reads 128 KiB.
    """

    def __init__(self, split: BankSplit, path: Path, device: torch.device) -> None:
        """Open the file; `path` is that of the split's features."""
        self._path, self._descriptor = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        self._labels, self._device = split.labels, device
        assert split.features.flags.c_contiguous
        self._shape, self._row_bytes = split.features.shape[1:], split.features[:1].nbytes
        # of a part of the file too: where its first row lies in the mapping, which begins with the file
        mapped = np.frombuffer(split.features._mmap, np.uint8)  # type: ignore[attr-defined]
        self._begin = split.features.ctypes.data - mapped.ctypes.data

    def rows(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """See RowReader."""
        return self._on_device(self._read(rows))

    def batches(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[tuple[Tensor, Tensor]]:
        """See RowReader."""
        remaining = iter(batches)
        with ThreadPoolExecutor(READERS, thread_name_prefix="bank rows") as readers:
            reading: deque[Future[tuple[Tensor, Tensor]]] = deque()
            try:
                while True:
                    for batch in islice(remaining, BATCHES_AHEAD - len(reading)):
                        reading.append(readers.submit(self._read, batch))
                    if not reading:
                        return
                    yield self._on_device(reading.popleft().result())
            finally:
                readers.shutdown(wait=False, cancel_futures=True)

    def _read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        pinned = self._device.type == "cuda"
        features = torch.empty(len(rows), *self._shape, dtype=torch.float32, pin_memory=pinned)
        into, offsets = features.numpy(), self._begin + rows * self._row_bytes
        try:
            for place in np.argsort(rows):  # in the order of the file
                if os.preadv(self._descriptor, [into[place]], offsets[place]) != self._row_bytes:
                    raise DataError(f"{self._path}: ends within its rows. Delete its folder.")
        except OSError as error:
            raise DataError(f"{self._path}: this part of the feature bank cannot be read ({error}).") from None
        labels = torch.from_numpy(self._labels[rows])
        return features, labels.pin_memory() if pinned else labels

    def _on_device(self, found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        features, labels = found
        return features.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)


def bring_to_cache(path: Path) -> None:
    """Ask the system to read a file from its begin to its end: rows at random would have the disk seek for each."""
    with suppress(OSError), path.open("rb", buffering=0) as file:  # who reads the rows will say what is wrong
        for begin in range(0, os.fstat(file.fileno()).st_size, ASKED_AT_ONCE):
            os.posix_fadvise(file.fileno(), begin, ASKED_AT_ONCE, os.POSIX_FADV_WILLNEED)
