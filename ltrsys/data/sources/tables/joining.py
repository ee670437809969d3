"""What joins tables: numbers and identifiers as arrays, and the images that several rows name."""

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.sources.files.text_files import quoted
from ltrsys.data.sources.tables.reading import Table
from ltrsys.data.sources.tables.values import coded
from ltrsys.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_UUID = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


def whole_numbers(values: "pa.Array", what: str, table: Table, first: int) -> NDArray[np.int64]:
    """Return a column of numbers of 0 or more, [rows]; -1 where nothing stands.

    Raises:
        DataError: For what is none; `first` is the row of the table that the column begins in.
    """
    codes, texts = coded(values)
    numbers = np.full(len(texts), -1, dtype=np.int64)
    for place, text in enumerate(texts):
        if text is not None and re.fullmatch("[0-9]{1,18}", text):
            numbers[place] = int(text)
        elif text is not None:
            row = first + int((codes == place).argmax())
            raise DataError(f"{table.where(row)}: {what} {quoted(text)} is no whole number.")
    return numbers[codes]


def uuids(values: "pa.Array", what: str, table: Table, first: int) -> NDArray[np.uint64]:
    """Return a column of UUIDs as two numbers each, [rows, 2].

    Raises:
        DataError: For what is none; `first` is the row of the table that the column begins in.
    """
    import pyarrow.compute as pc

    is_uuid = pc.match_substring_regex(values, _UUID).fill_null(False).to_numpy(zero_copy_only=False)
    if not is_uuid.all():
        row = int(is_uuid.argmin())
        raise DataError(f"{table.where(first + row)}: {what} {quoted(str(values[row].as_py()))} is no UUID.")
    digits = bytes.fromhex("".join(values.to_pylist()).replace("-", ""))
    return np.frombuffer(digits, dtype=">u8").reshape(-1, 2).astype(np.uint64)


class UuidPlaces:
    """The places of UUIDs in a list, by bisection: 24 bytes each, where a dict takes over 150."""

    def __init__(self, identifiers: NDArray[np.uint64]) -> None:
        """Take in a list, [entries, 2]."""
        self._order = np.lexsort((identifiers[:, 1], identifiers[:, 0]))
        self._high, self._low = identifiers[self._order].T
        runs = np.flatnonzero(np.diff(self._high, prepend=~self._high[:1], append=~self._high[-1:]))
        self._longest_run = int(np.diff(runs).max(initial=0))

    def find(self, identifiers: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the place of each UUID, [rows]; -1 where it is not in the list."""
        found = np.full(len(identifiers), -1, dtype=np.int64)
        at = np.searchsorted(self._high, identifiers[:, 0])
        for _ in range(self._longest_run):
            within = at < len(self._high)
            own = at[within]
            is_it = (self._high[own] == identifiers[within, 0]) & (self._low[own] == identifiers[within, 1])
            found[np.flatnonzero(within)[is_it]] = self._order[own[is_it]]
            at = at + 1
        return found


def once_each(keys: NDArray[np.int64], labels: NDArray[np.int32]) -> tuple[NDArray[np.int64], int, int]:
    """Choose one row for each image, and none where rows of it are of several classes.

    Args:
        keys: What tells images apart, [rows].
        labels: The class of each row, [rows].

    Returns:
        The rows that are kept, in order; how many were left out since their image has one already; and how many since
        their image shows several classes.
    """
    if not len(keys):
        return np.zeros(0, np.int64), 0, 0
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order[0]] - 1))
    ordered = labels[order]
    is_one_class = np.minimum.reduceat(ordered, starts) == np.maximum.reduceat(ordered, starts)
    sizes = np.diff(starts, append=len(keys))
    kept = np.sort(order[starts[is_one_class]])
    return kept, int((sizes[is_one_class] - 1).sum()), int(sizes[~is_one_class].sum())
