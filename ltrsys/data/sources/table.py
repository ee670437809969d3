"""Tables with a row an image: CSV, TSV or Parquet, with columns named on the command line; and presets for known ones.

Rows are read in pieces, and texts that rows have in common are kept once, so that ten million rows fit in memory.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import SPLITS, SplitName
from ltrsys.data.sources.darwin_core import read_darwin_core
from ltrsys.data.sources.fetching import FetchedImages, is_url, required_folder
from ltrsys.data.sources.listing import Listing
from ltrsys.data.sources.open_data import read_open_data
from ltrsys.data.sources.source import DETAILS, SOURCES, Items, Source, SourceKind, SourceOptions, require_folder
from ltrsys.data.sources.table_columns import RANKS, choose_columns
from ltrsys.data.sources.table_reading import Table, open_table
from ltrsys.data.sources.table_values import ClassTable, SharedTexts, coded
from ltrsys.data.sources.text_files import quoted
from ltrsys.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

PRESETS: dict[str, Callable[[SourceOptions], Source]] = {
    "inaturalist_open_data": read_open_data,
    "darwin_core": read_darwin_core,
}
SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""What a column of splits may hold, in letters of any case."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def read_table(options: SourceOptions) -> Source:
    """Read one table of all splits, or one of each.

    Raises:
        UsageError: For options that do not fit each other or the table.
        DataError: For a file that is no table, a row that is no image with a class, an image that is listed twice or
            is not there, naming the file and the line.
    """
    files: list[tuple[SplitName | None, Path]] = (
        [*options.files.items()] if not options.table else [(None, options.table)]
    )
    classes = ClassTable()
    listed = [
        _Listed(open_table(path), split, options.columns, classes, urls=options.root is None) for split, path in files
    ]
    place = str(files[0][1])
    records, ids = classes.finished(options.num_classes, place)
    splits = _items(listed, ids, options)
    if "train" not in splits:
        raise DataError(f"{place}: no row is of the split train; the splits are {', '.join(splits)}.")
    has_urls = any(file.has_urls for file in listed)
    reader = FetchedImages(
        required_folder(options.images, options.root) if has_urls else None,
        options.root,
        connections=options.connections,
        requests_per_second=options.requests_per_second,
    )
    name = Path(place).name.split(".")[0] if options.root is None else options.root.resolve().name
    return Source("table", name, records, splits, reader, reader.version)


class _Listed:
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


def _items(listed: Sequence[_Listed], ids: NDArray[np.int32], options: SourceOptions) -> dict[SplitName, Items]:
    listing = _listing(listed, options)
    parts: dict[SplitName, Items] = {}
    for file in listed:
        if listing is not None:
            _resolve_paths(file, listing)
        items = Items(file.names, ids[file.numbers], file.details)
        for number, split in enumerate(SPLITS):
            own = np.flatnonzero(file.splits == number)
            if len(own):
                parts[split] = items if len(own) == len(items) else items.take(own)
    _refuse_urls_twice(listed)
    return parts


def _listing(listed: Sequence[_Listed], options: SourceOptions) -> Listing | None:
    """Return what finds paths, where there are any."""
    if all(sum(map(len, file.url_rows)) == len(file.names) for file in listed):
        return None
    root = options.required_root("table")
    require_folder(root, "the images")
    return Listing(root, keep_missing=options.keep_missing)


def _resolve_paths(file: _Listed, listing: Listing) -> None:
    is_path = np.ones(len(file.names), dtype=np.bool_)
    is_path[np.concatenate(file.url_rows)] = False
    rows = np.flatnonzero(is_path)
    if len(rows) == len(file.names):
        file.names = listing.names(file.names, file.table.where)
        return
    paths = [file.names[row] for row in rows]
    for row, name in zip(rows, listing.names(paths, lambda number: file.table.where(int(rows[number]))), strict=True):
        file.names[row] = name


def _refuse_urls_twice(listed: Sequence[_Listed]) -> None:
    """Check that no URL is listed twice. Digests are compared first: a set of millions of URLs takes much memory."""
    rows_of = [np.concatenate(file.url_rows) for file in listed]
    file_of = np.repeat(np.arange(len(listed)), [len(rows) for rows in rows_of])
    row_of = np.concatenate(rows_of)
    names = (file.names[row] for file, rows in zip(listed, rows_of, strict=True) for row in rows.tolist())
    digests = np.fromiter(map(hash, names), dtype=np.int64, count=len(row_of))
    order = np.argsort(digests, kind="stable")
    is_again = np.diff(digests[order], prepend=digests[order[:1]] - 1) == 0
    for place in np.sort(order[is_again]).tolist():
        file, row = listed[file_of[place]], int(row_of[place])
        for other in np.flatnonzero(digests[:place] == digests[place]).tolist():
            earlier, earlier_row = listed[file_of[other]], int(row_of[other])
            if earlier.names[earlier_row] == file.names[row]:
                raise DataError(
                    f"{file.table.where(row)}: {quoted(file.names[row])} is listed a second time, first at "
                    f"{earlier.table.where(earlier_row)}. Remove one of them."
                )


@SOURCES.register
class TableSource(SourceKind):
    """Tables."""

    name = "table"
    summary = "a table with a row an image (CSV, TSV, Parquet), of iNaturalist's open data or of GBIF with --preset"
    order = 15

    @classmethod
    def read(cls, options: SourceOptions) -> Source:
        """Read the tables that were given, or those of a preset."""
        options.refuse_annotation_choices(cls.name)
        if options.preset is not None:
            if options.preset not in PRESETS:
                raise UsageError(f"--preset {quoted(options.preset)}: there is none; expected {' or '.join(PRESETS)}.")
            if options.files or options.table or options.columns:
                raise UsageError(f"--preset {options.preset} finds its tables below --root: give no others.")
            options.refuse_num_classes(f"--preset {options.preset}")
            return PRESETS[options.preset](options)
        if options.table is not None and options.files:
            raise UsageError(
                f"Give one table of all splits, --table, or one of each, --{min(options.files)}: not both."
            )
        options.require_train()
        if options.table is None and not options.files:
            raise UsageError("table needs --table FILE, or --train FILE and mostly --val FILE and --test FILE.")
        return read_table(options)
