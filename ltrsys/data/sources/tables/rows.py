"""What the rows of one table say: images, their classes and splits, and what else is known of them."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import SPLITS, SplitName
from ltrsys.data.sources.fetching.reader import is_url
from ltrsys.data.sources.files.text_files import quoted
from ltrsys.data.sources.source import DETAILS
from ltrsys.data.sources.tables.classes import ClassTable
from ltrsys.data.sources.tables.columns import RANKS, choose_columns
from ltrsys.data.sources.tables.reading import Table
from ltrsys.data.sources.tables.values import SharedTexts, coded
from ltrsys.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""What a column of splits may hold, in letters of any case."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class ListedRows:
    """The rows of one file; arrays of shape [rows]."""

    def __init__(
        self,
        table: Table,
        split: SplitName | None,
        columns: Mapping[str, str],
        classes: ClassTable,
        *,
        urls: bool,
    ) -> None:
        self.table = table
        self.names: list[str] = []
        self.url_rows: list[NDArray[np.int64]] = []
        roles = choose_columns(table.header, columns, table.place, urls=urls)
        if split is not None and "split" in roles:
            if "split" in columns:
                raise UsageError("--columns split=... is for one table of all splits: give it as --table FILE.")
            del roles["split"]
        taxa = [rank for rank in RANKS if rank in roles]
        details = {role: SharedTexts() for role in DETAILS if role in roles}
        numbers: list[NDArray[np.int64]] = []
        splits: list[NDArray[np.int8]] = []
        texts: dict[str, list[NDArray[np.object_]]] = {role: [] for role in details}
        for arrays in table.pieces(list(roles.values())):
            values = dict(zip(roles, arrays, strict=True))
            first = len(self.names)
            where = _after(first, table.where)
            images = "url" if "url" in roles else "path"
            self._add_names(values[images], images, where)
            numbers.append(
                classes.numbers(values.get("label"), values.get("name"), {rank: values[rank] for rank in taxa}, where)
            )
            if "split" in roles:
                splits.append(_split_numbers(values["split"], where))
            for role, shared in details.items():
                texts[role].append(shared(values[role]))
        self.numbers = np.concatenate(numbers)
        self.splits = (
            np.concatenate(splits) if splits else np.full(len(self.names), SPLITS.index(split or "train"), np.int8)
        )
        self.details: dict[str, NDArray[np.object_]] = {}
        for role in details:
            column = np.concatenate(texts.pop(role))
            if any(value is not None for value in column):
                self.details[role] = column

    @property
    def has_urls(self) -> bool:
        """Tell whether some image is to be fetched."""
        return any(len(rows) for rows in self.url_rows)

    def _add_names(self, values: "pa.Array", role: str, where: Callable[[int], str]) -> None:
        first = len(self.names)
        names = values.to_pylist()
        url_rows = []
        for row, name in enumerate(names):
            if not name or not name.strip():
                raise DataError(f"{where(row)}: the {role} is empty. Fill it in or remove the row.")
            if is_url(name):
                url_rows.append(first + row)
            elif role == "url" or _SCHEME.match(name):
                raise DataError(f"{where(row)}: {quoted(name)} is no URL that begins with http:// or https://.")
        self.url_rows.append(np.array(url_rows, dtype=np.int64))
        self.names += names


def _after(first: int, where: Callable[[int], str]) -> Callable[[int], str]:
    return lambda row: where(first + row)


def _split_numbers(values: "pa.Array", where: Callable[[int], str]) -> NDArray[np.int8]:
    """Return the place of each row's split in `SPLITS`, [rows]."""
    codes, texts = coded(values)
    numbers = np.array(
        [SPLITS.index(SPLIT_NAMES[text.lower()]) if text and text.lower() in SPLIT_NAMES else -1 for text in texts],
        dtype=np.int8,
    )[codes]
    if (numbers < 0).any():
        row = int((numbers < 0).argmax())
        text = texts[codes[row]]
        said = "the split is empty" if text is None else f"{quoted(text)} is no split"
        raise DataError(f"{where(row)}: {said}; write train, val or test.")
    return numbers
