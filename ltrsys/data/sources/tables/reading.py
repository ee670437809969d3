"""The rows of a table, a piece at a time: text with separators (`.csv`, `.tsv`, `.txt`, also `.gz`), or Parquet."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ltrsys.data.sources.files.text_files import one_line, quoted
from ltrsys.data.sources.tables.text_tables import TextTable, opener
from ltrsys.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 2**16
"""Rows of a piece of a Parquet file."""


class Table(Protocol):
    """A table of which some columns can be read."""

    place: str
    """What names it in errors."""
    header: list[str]
    """The names of its columns."""

    def pieces(self, columns: Sequence[int]) -> "Iterator[list[pa.Array]]":
        """Yield arrays of strings, one for each of `columns`, of some rows after others; null where nothing stands.

        Raises:
            DataError: Where a row is not what the header says, or the file is damaged or has no row.
        """

    def where(self, row: int) -> str:
        """Name the place of a row, the first being 0."""


def open_table(path: Path) -> Table:
    """Return the table in a file.

    Raises:
        DataError: Where there is none, or its beginning is no table's.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such table.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read this table: {error.strerror}.") from None
    if start == b"PAR1" or path.suffix.lower() in (".parquet", ".pq"):
        return ParquetTable(path)
    if start == b"PK\x03\x04":
        raise DataError(f"{path}: this is a zip archive or an Excel file, and no table. Save it as CSV or Parquet.")
    return TextTable(str(path), opener(path), delimiter="\t" if ".tsv" in path.suffixes else None)


class ParquetTable:
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                self.header: list[str] = file.schema_arrow.names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from None

    def pieces(self, columns: Sequence[int]) -> "Iterator[list[pa.Array]]":
        """Yield the rows; numbers and dates become the text that they are written as."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = [self.header[column] for column in columns]
        is_empty = True
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(_ROWS, columns=names, use_threads=False):
                    if batch.num_rows:
                        is_empty = False
                        yield [self._text(batch.column(name), name) for name in names]
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise self._damaged(error) from None
        if is_empty:
            raise DataError(f"{self.place}: this table has no row.")

    def where(self, row: int) -> str:
        """Name a row, counted from 1."""
        return f"{self.place}: row {row + 1}"

    def _text(self, values: "pa.Array", name: str) -> "pa.Array":
        import pyarrow as pa

        try:
            return values.cast(pa.string())
        except pa.ArrowException:
            raise DataError(
                f"{self.place}: the column {quoted(name)} is of type {one_line(str(values.type))[:80]}, which is no "
                "text, number or date."
            ) from None

    def _damaged(self, error: Exception) -> DataError:
        reason = one_line(" ".join(str(error).split())[:200])
        return DataError(f"{self.place}: this is no Parquet file, or one that is damaged or cut ({reason}).")
