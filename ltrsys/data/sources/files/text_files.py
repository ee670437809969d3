"""Text files as people's programs write them: UTF-8 with or without a byte order mark, and what to do about others."""

import codecs
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from ltrsys.errors import DataError

MOST_SHOWN = 200
"""Characters of somebody's text that stand in an error."""


def read_utf8(path: Path, what: str) -> bytes:
    """Return the bytes of a file without its byte order mark. They are not looked at further.

    Raises:
        DataError: Where there is no such file, it cannot be read, or it says that it is UTF-16.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such {what}.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read this {what}: {error.strerror}.") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}:1: this {what} is UTF-16. {_advice(path, 'UTF-16')}")
    return data.removeprefix(codecs.BOM_UTF8)


def refuse_other_encodings(path: Path, data: bytes) -> None:
    """Check that the bytes of a file are UTF-8.

    Raises:
        DataError: Where they are not, or hold a NUL byte, naming the line.
    """
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        for first, encoding in ((1, "UTF-16LE"), (0, "UTF-16BE")):
            if 2 * data[first::2].count(0) > len(data[first::2]):
                raise DataError(f"{path}:{line}: there are NUL bytes: this is UTF-16. {_advice(path, encoding)}")
        raise DataError(f"{path}:{line}: there is a NUL byte: this is no text, or a damaged one.")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        advice = _advice(path, "LATIN1")
        raise DataError(f"{path}:{line}: this line is not UTF-8, and perhaps Latin-1. {advice}") from None


def names_alike(names: Iterable[str]) -> str:
    """Return the names that differ in case, blanks or the composition of accents only, for a warning."""
    by_spelling: dict[str, list[str]] = {}
    for name in names:
        by_spelling.setdefault(unicodedata.normalize("NFC", name).strip().casefold(), []).append(name)
    return ", ".join(" and ".join(quoted(name) for name in like) for like in by_spelling.values() if len(like) > 1)


def quoted(text: str) -> str:
    """Return somebody's text for an error of one line, in backquotes and cut where it is long."""
    return f"`{one_line(text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + '...')}`"


def one_line(text: str) -> str:
    """Return a text with escapes for what would break a line or cannot be printed."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _advice(path: Path, encoding: str) -> str:
    new = quote(f"{path.stem}_utf8{path.suffix}")
    return f"Turn it into UTF-8: iconv -f {encoding} -t UTF-8 {quote(str(path))} > {new}"
