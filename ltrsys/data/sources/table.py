"""Tables with a row an image: CSV, TSV or Parquet, with columns named on the command line; and presets for known ones.

Rows are read in pieces, and texts that rows have in common are kept once, so that ten million rows fit in memory.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import SPLITS, SplitName
from ltrsys.data.sources.fetching.reader import FetchedImages, required_folder
from ltrsys.data.sources.files.listing import Listing
from ltrsys.data.sources.files.text_files import quoted
from ltrsys.data.sources.source import SOURCES, Items, Source, SourceKind, SourceOptions, require_folder
from ltrsys.data.sources.tables.classes import ClassTable
from ltrsys.data.sources.tables.darwin_core import read_darwin_core
from ltrsys.data.sources.tables.open_data import read_open_data
from ltrsys.data.sources.tables.reading import open_table
from ltrsys.data.sources.tables.rows import ListedRows
from ltrsys.errors import DataError, UsageError

PRESETS: dict[str, Callable[[SourceOptions], Source]] = {
    "inaturalist_open_data": read_open_data,
    "darwin_core": read_darwin_core,
}


def read_table(options: SourceOptions) -> Source:
    """Read one table of all splits, or one of each.

    Raises:
        UsageError: For options that do not fit each other or the table.
        DataError: For a file that is no table, a row that is no image with a class, an image that is listed twice or
            is not there, naming the file and the line.
    """
    files: list[tuple[SplitName | None, Path]] = [*options.files.items()]
    if options.table is not None:
        files = [(None, options.table)]
    classes = ClassTable()
    urls = options.root is None
    listed = [ListedRows(open_table(path), split, options.columns, classes, urls=urls) for split, path in files]
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


def _items(listed: Sequence[ListedRows], ids: NDArray[np.int32], options: SourceOptions) -> dict[SplitName, Items]:
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


def _listing(listed: Sequence[ListedRows], options: SourceOptions) -> Listing | None:
    """Return what finds paths, where there are any."""
    if all(sum(map(len, file.url_rows)) == len(file.names) for file in listed):
        return None
    root = options.required_root("table")
    require_folder(root, "the images")
    return Listing(root, keep_missing=options.keep_missing)


def _resolve_paths(file: ListedRows, listing: Listing) -> None:
    is_path = np.ones(len(file.names), dtype=np.bool_)
    is_path[np.concatenate(file.url_rows)] = False
    rows = np.flatnonzero(is_path)
    if len(rows) == len(file.names):
        file.names = listing.names(file.names, file.table.where)
        return
    paths = [file.names[row] for row in rows]
    for row, name in zip(rows, listing.names(paths, lambda number: file.table.where(int(rows[number]))), strict=True):
        file.names[row] = name


def _refuse_urls_twice(listed: Sequence[ListedRows]) -> None:
    """Check that no URL is listed twice. Digests are compared first: a set of millions of URLs takes much memory."""
    rows_of = [np.concatenate(file.url_rows) for file in listed]
    file_of = np.repeat(np.arange(len(listed)), [len(rows) for rows in rows_of])
    row_of = np.concatenate(rows_of)
    names = (file.names[row] for file in listed for rows in file.url_rows for row in rows.tolist())
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
    reads_tables = True

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
