"""The files of a Darwin Core archive and what `meta.xml` says of their columns (the Darwin Core text guide of TDWG)."""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING
from xml.etree import ElementTree

from ltrsys.data.sources.files.text_files import one_line, quoted
from ltrsys.data.sources.tables.text_tables import TextTable
from ltrsys.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_XML = 2**20
"""Bytes of a `meta.xml`, which has some kilobytes."""
_ESCAPES = {"\\t": "\t", "\\n": "\n", "\\r": "\r"}


class ArchiveTable:
    """One table of the archive."""

    def __init__(self, table: TextTable, identifier: int) -> None:
        self.place = table.place
        self.identifier = identifier
        """The column with the id of the occurrence."""
        self._table = table

    def first_of(self, terms: Sequence[str]) -> int | None:
        """Return the column of the first of these terms that there is one of."""
        header = self._table.header
        return next((header.index(term) for term in terms if term in header), None)

    def lacks(self, term: str) -> DataError:
        """Return the error of a table without a column that is needed."""
        there = ", ".join(quoted(column[:50]) for column in self._table.header[:30])
        return DataError(f"{self.place}: there is no column {term}. There are: {there}.")

    def pieces(self, columns: Sequence[int]) -> "Iterator[list[pa.Array]]":
        """Yield the rows, as `TextTable.pieces`."""
        return self._table.pieces(columns)

    def where(self, row: int) -> str:
        """Name the place of a row."""
        return self._table.where(row)


def open_archive(root: Path) -> tuple[ArchiveTable, ArchiveTable]:
    """Return the tables of the occurrences and of their media.

    Raises:
        DataError: Where there is no such archive, or one of them is not in it.
    """
    if not root.exists():
        raise DataError(f"{root}: there is no such archive; --root names its folder or its .zip.")
    files = _folder(root) if root.is_dir() else _zip(root)
    if "meta.xml" in files:
        return _described(root, files)
    tables = []
    for name in ("occurrence.txt", "multimedia.txt"):
        if name not in files:
            raise DataError(
                f"{root}: there is no {name} and no meta.xml here: this is no Darwin Core archive of GBIF's."
            )
        table = TextTable(f"{root}/{name}", files[name], delimiter="\t", quote=None)
        if "gbifID" not in table.header:
            raise ArchiveTable(table, 0).lacks("gbifID, and no meta.xml that names another")
        tables.append(ArchiveTable(table, table.header.index("gbifID")))
    return tables[0], tables[1]


def _folder(root: Path) -> dict[str, Callable[[], IO[bytes]]]:
    def opened(path: Path) -> Callable[[], IO[bytes]]:
        return lambda: open(path, "rb")

    return {path.name: opened(path) for path in root.iterdir() if path.is_file()}


def _zip(root: Path) -> dict[str, Callable[[], IO[bytes]]]:
    def opened(name: str) -> Callable[[], IO[bytes]]:
        return lambda: zipfile.ZipFile(root).open(name)

    try:
        with zipfile.ZipFile(root) as archive:
            return {name: opened(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"{root}: this is no .zip, or one that is damaged or cut ({one_line(str(error))}).") from None


def _described(root: Path, files: Mapping[str, Callable[[], IO[bytes]]]) -> tuple[ArchiveTable, ArchiveTable]:
    place = f"{root}/meta.xml"
    try:
        with files["meta.xml"]() as file:
            text = file.read(_MOST_XML)
        archive = ElementTree.fromstring(text)
    except (ElementTree.ParseError, OSError, zipfile.BadZipFile, ValueError, LookupError, EOFError) as error:
        raise DataError(f"{place}: this is no XML that describes an archive ({one_line(str(error)[:200])}).") from None
    core = media = None
    for element in archive:
        kind = element.get("rowType", "").rstrip("/").rpartition("/")[2]
        if _tag(element) == "core" and kind == "Occurrence":
            core = element
        elif _tag(element) == "extension" and kind == "Multimedia":
            media = element
    if core is None or media is None:
        what = "core of occurrences" if core is None else "extension Multimedia, which has the URLs of photographs"
        raise DataError(f"{place}: this archive has no {what}.")
    return _table(root, files, core, "id"), _table(root, files, media, "coreid")


def _table(
    root: Path, files: Mapping[str, Callable[[], IO[bytes]]], element: ElementTree.Element, identifier: str
) -> ArchiveTable:
    """Return the table that an element describes."""
    place = f"{root}/meta.xml"
    locations = [(child.text or "").strip() for child in element.iter() if _tag(child) == "location"]
    if len(locations) != 1 or locations[0] not in files:
        raise DataError(f"{place}: expected one file of the archive, and {quoted(', '.join(locations))} is named.")
    if element.get("encoding", "UTF-8").upper().replace("-", "") not in ("UTF8", "ASCII", "USASCII"):
        raise DataError(f"{place}: {locations[0]} is in {quoted(element.get('encoding', ''))}. Turn it into UTF-8.")
    terms: dict[int, str] = {}
    key = None
    for child in element:
        index = _index(child)
        if index is not None and _tag(child) == "field":
            terms[index] = child.get("term", "").rstrip("/").rpartition("/")[2]
        elif index is not None and _tag(child) == identifier:
            key = index
    if key is None:
        raise DataError(f"{place}: {locations[0]} has no <{identifier} index=...>, which joins the tables.")
    delimiter = element.get("fieldsTerminatedBy", ",")
    quote = element.get("fieldsEnclosedBy", '"')
    delimiter = _ESCAPES.get(delimiter, delimiter)
    lines = element.get("ignoreHeaderLines", "0")
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in "\r\n" or len(quote) > 1 or not quote.isascii():
        raise DataError(f"{place}: {locations[0]} has {quoted(delimiter)} between values and {quoted(quote)} around.")
    if lines not in ("0", "1"):
        raise DataError(f"{place}: {locations[0]} has {quoted(lines)} lines of names; 0 or 1 can be read.")
    last = max(key, *terms) if terms else key
    header = [terms.get(number, f"column {number}") for number in range(last + 1)]
    table = TextTable(
        f"{root}/{locations[0]}",
        files[locations[0]],
        delimiter=delimiter,
        quote=quote or None,
        header=header,
        header_lines=int(lines),
    )
    return ArchiveTable(table, key)


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _index(element: ElementTree.Element) -> int | None:
    index = element.get("index", "")
    return int(index) if index.isascii() and index.isdecimal() and len(index) < 4 else None
