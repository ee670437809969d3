"""Tables of text, a row a line: their separators, quotes, compression and encoding, and the line of what is wrong."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast
from zipfile import BadZipFile

from ltrsys.data.sources.files.text_files import one_line, quoted
from ltrsys.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_DELIMITERS = (",", "\t", ";", "|")
_BLOCK = 4 * 2**20
"""Bytes that are read at a time; a row must fit in."""
_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)
"""What Arrow says of a row of another length."""
_DAMAGE = (OSError, EOFError, zlib.error, BadZipFile)
"""What a file that is cut or no such archive raises."""


def opener(path: Path) -> Callable[[], IO[bytes]]:
    """Return what opens a file, which may be compressed by gzip."""

    def opened() -> IO[bytes]:
        return cast(IO[bytes], gzip.open(path)) if path.suffix.lower() == ".gz" else open(path, "rb")

    return opened


class TextTable:
    """A table of text."""

    def __init__(
        self,
        place: str,
        opened: Callable[[], IO[bytes]],
        *,
        delimiter: str | None = None,
        quote: str | None = '"',
        header: Sequence[str] | None = None,
        header_lines: int = 1,
    ) -> None:
        """Read the header.

        Args:
            place: Names the table, for errors.
            opened: Opens it.
            delimiter: What separates the values of a row; found in the first row if not given.
            quote: What values with separators stand between.
            header: The names of the columns, if they are not those of the first row.
            header_lines: Rows before the first one that counts.

        Raises:
            DataError: Where the file cannot be read, is empty or is no text in UTF-8.
        """
        self.place, self._opened, self._quote, self._header_lines = place, opened, quote, header_lines
        try:
            with opened() as file:
                start = file.read(_BLOCK)
        except _DAMAGE as error:
            raise self._damaged(error) from None
        if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start[:1000]:
            raise DataError(f"{place}:1: this is no text in UTF-8, and perhaps UTF-16. {self._advice('UTF-16')}")
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
        self._num_before = len(start) - len(text)
        first = text.splitlines()[:1]
        if not first:
            raise DataError(f"{place}: this table is empty.")
        line = first[0].decode(errors="replace")
        self._delimiter = delimiter or max(_DELIMITERS, key=line.count)
        try:
            with closing(self._rows(io.BytesIO(start))) as rows:
                row = next(rows)[1]
        except csv.Error as error:
            raise DataError(f"{place}:1: this is no table: {error}.") from None
        self.header = [name.strip() for name in header or row]
        # A file may have more columns than its description names.
        self.header += [f"column {number}" for number in range(len(self.header), len(row) if header else 0)]

    def pieces(self, columns: Sequence[int]) -> "Iterator[list[pa.Array]]":
        """Yield the rows; an empty value is an empty text.

        Raises:
            DataError: Where a value holds lines that look like rows, or the table ends within quotes: a quote is not
                closed, and rows would be lost in a value.
        """
        import pyarrow as pa
        from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv

        numbers = [str(column) for column in columns]
        is_empty = True
        done = 0
        try:
            with self._opened() as file:
                file.read(self._num_before)
                counting = _QuoteCounter(file, (self._quote or "").encode())
                reader = open_csv(
                    pa.PythonFile(counting, mode="r"),
                    # One thread, for which rows have numbers.
                    ReadOptions(
                        use_threads=False,
                        block_size=_BLOCK,
                        column_names=[str(number) for number in range(len(self.header))],
                        skip_rows_after_names=self._header_lines,
                    ),
                    ParseOptions(
                        delimiter=self._delimiter,
                        quote_char=self._quote or False,
                        newlines_in_values=self._quote is not None,
                    ),
                    ConvertOptions(
                        column_types={number: pa.string() for number in numbers},
                        include_columns=list(dict.fromkeys(numbers)),
                        strings_can_be_null=False,
                    ),
                )
                for batch in reader:
                    if batch.num_rows:
                        is_empty = False
                        values = [batch.column(number) for number in numbers]
                        self._check_lines(values, done)
                        yield values
                        done += batch.num_rows
                if counting.num_quotes % 2:
                    self._check_end()
        except pa.ArrowException as error:
            if "mpty CSV file" not in str(error):
                raise self._explained(str(error), done) from None
        except _DAMAGE as error:
            raise self._damaged(error) from None
        if is_empty:
            raise self._has_no_row()

    def _check_lines(self, columns: "Sequence[pa.Array]", done: int) -> None:
        """Refuse a value that has swallowed a row."""
        import pyarrow.compute as pc

        for values in columns:
            for row in pc.indices_nonzero(pc.match_substring(values, "\n")).to_pylist():
                text = values[row].as_py()
                rows = csv.reader(text.splitlines()[1:], delimiter=self._delimiter)
                if any(len(row) == len(self.header) for row in rows):
                    raise DataError(
                        f"{self.where(done + row)}: a value holds the rows below it: {quoted(text[:80])}. A quote is "
                        "not closed. Close it."
                    )

    def _check_end(self) -> None:
        """Refuse a file whose end is within quotes; one of an odd number of quotes may also have them within values."""
        with self._opened() as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
            lines = csv.reader(text, delimiter=self._delimiter, quotechar=self._quote, strict=True)
            line = 1
            try:
                for _ in lines:
                    line = lines.line_num + 1
            except csv.Error as error:
                if "unexpected end" in str(error):
                    raise DataError(
                        f"{self.place}:{line}: a quote that this row opens is not closed before the end of the table. "
                        "Close it."
                    ) from None
            finally:
                text.detach()  # whoever opened the file closes it

    def where(self, row: int) -> str:
        """Name the line that a row begins in. It is read again from the start, since only an error asks for it."""
        try:
            with self._opened() as file, closing(self._rows(file)) as rows:
                for number, (line, _) in enumerate(rows, start=-self._header_lines):
                    if number == row:
                        return f"{self.place}:{line}"
        except (csv.Error, *_DAMAGE):
            pass
        return f"{self.place}: row {row + 1}"

    def _num_rows(self, most: int) -> int:
        """Count rows, with those of the header, as far as `most`."""
        try:
            with self._opened() as file, closing(self._rows(file)) as rows:
                return sum(1 for _ in islice(rows, most))
        except csv.Error:  # a value that is too long, which is one
            return most

    def _has_no_row(self) -> DataError:
        return DataError(f"{self.place}: this table has a header and no row, or no header.")

    def _rows(self, file: IO[bytes]) -> Generator[tuple[int, list[str]], None, None]:
        """Yield the rows that are not empty, with their first lines."""
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
        if self._quote is None:
            lines = csv.reader(text, delimiter=self._delimiter, quoting=csv.QUOTE_NONE)
        else:
            lines = csv.reader(text, delimiter=self._delimiter, quotechar=self._quote)
        line = 1
        try:
            for row in lines:
                if row:
                    yield line, row
                line = lines.line_num + 1
        finally:
            text.detach()  # whoever opened the file closes it

    def _explained(self, said: str, done: int) -> DataError:
        if ragged := _RAGGED.search(said):
            row, expected, actual, text = ragged.groups()
            hint = "a quote is not closed" if "\n" in text else "separators are mixed, or one stands in a value"
            return DataError(
                f"{self.where(int(row) - 1 - self._header_lines)}: {actual} values and not {expected}, as the header "
                f"has, with {self._delimiter!r} between them. Perhaps {hint}: {quoted(text[:80])}."
            )
        if "UTF8" in said:
            return DataError(
                f"{self._line_in_another_encoding()}: this line is not UTF-8, and perhaps Latin-1. "
                f"{self._advice('LATIN1')}"
            )
        if "straddl" in said and not done and self._num_rows(2) <= self._header_lines:
            return self._has_no_row()  # a header without a line's end, which Arrow takes for half a row
        if "straddl" in said:
            return DataError(
                f"{self.where(done)}: from here on, a row is longer than {_BLOCK} bytes: perhaps a quote is not closed."
            )
        return DataError(f"{self.place}: this is no table: {one_line(' '.join(said.split())[:200])}.")

    def _line_in_another_encoding(self) -> str:
        with self._opened() as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode()
                except UnicodeDecodeError:
                    return f"{self.place}:{number}"
        return self.place

    def _advice(self, encoding: str) -> str:
        return f"Save it as UTF-8, for example with iconv -f {encoding} -t UTF-8."

    def _damaged(self, error: Exception) -> DataError:
        if isinstance(error, OSError) and error.strerror:
            return DataError(f"{self.place}: cannot read this table: {error.strerror}.")
        reason = one_line(" ".join(str(error).split())[:200])
        return DataError(f"{self.place}: this file is damaged or cut ({reason}). Fetch or write it again.")


class _QuoteCounter:
    """A file that counts the quotes in what is read of it."""

    def __init__(self, file: IO[bytes], quote: bytes) -> None:
        self._file, self._quote = file, quote
        self.num_quotes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.num_quotes += data.count(self._quote) if self._quote else 0
        return data

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        """Leave the file to whoever opened it."""
