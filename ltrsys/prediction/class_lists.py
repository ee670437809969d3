"""Lists of classes that people have: the species of a region, and how frequent they are there."""

import csv
import difflib
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import ClassRecord
from ltrsys.data.sources.files.text_files import quoted, read_utf8, refuse_other_encodings
from ltrsys.errors import DataError

NAME_COLUMNS = ("name", "species", "class", "class_name", "scientific_name", "scientificname", "taxon")
"""What a column of names may be called, in small letters."""
FREQUENCY_COLUMNS = ("frequency", "count", "images", "weight", "prior", "probability", "n")


def read_species(path: Path, classes: Sequence[ClassRecord]) -> NDArray[np.bool_]:
    """Return which classes a list names, bool [C].

    Args:
        path: A text file with a name on each line, or a table (CSV or TSV) with a column of names (`NAME_COLUMNS`).
        classes: The classes that there are, [C]: they are found by name, species or the source's own id.

    Raises:
        DataError: Where the file cannot be read, or names a class that there is not: the nearest one is named.
    """
    rows = _rows(path)
    column = _column(rows[0][1], NAME_COLUMNS)
    named = [(line, name) for line, row in rows[column is not None :] if (name := _value(row, column or 0))]
    chosen = np.zeros(len(classes), bool)
    for places in _find(path, named, classes):
        chosen[places] = True
    if not chosen.any():
        raise DataError(f"{path}: there is no name in this list.")
    return chosen


def read_frequencies(path: Path, classes: Sequence[ClassRecord]) -> NDArray[np.float64]:
    """Return the frequencies of the classes that a table says, float64 [C], summing to 1; 0 for one that it lacks.

    Args:
        path: A CSV or TSV with a column of names (`NAME_COLUMNS`) and one of numbers of any scale
            (`FREQUENCY_COLUMNS`), or with just these two columns in this order and no heading.
        classes: The classes that there are, [C].

    Raises:
        DataError: As `read_species` does, and for a number that is none, negative or infinite.
    """
    rows = _rows(path)
    names, numbers = _column(rows[0][1], NAME_COLUMNS), _column(rows[0][1], FREQUENCY_COLUMNS)
    if names is None and numbers is None and len(rows[0][1]) == 2:
        names, numbers = 0, 1
    elif names is None or numbers is None:
        missing = f"names ({', '.join(NAME_COLUMNS)})" if names is None else f"numbers ({', '.join(FREQUENCY_COLUMNS)})"
        raise DataError(f"{path}:{rows[0][0]}: there is no column of {missing}. Give its column one of these headings.")
    else:
        rows = rows[1:]
    rows = [(line, row) for line, row in rows if any(row)]
    frequencies = np.zeros(len(classes))
    found = _find(path, [(line, _value(row, names)) for line, row in rows], classes)
    for places, (line, row) in zip(found, rows, strict=True):
        frequencies[places] += _number(path, line, _value(row, numbers)) / len(places)
    if not frequencies.sum() > 0:
        raise DataError(f"{path}: no class has a frequency above 0.")
    return frequencies / frequencies.sum()


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows of a table with the numbers of their lines; blanks around values are no part of them."""
    data = read_utf8(path, "list of classes")
    refuse_other_encodings(path, data)
    text = data.decode()
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    # a list of names alone may hold commas within them
    if path.suffix.lower() not in (".csv", ".tsv"):
        delimiter = "\t"
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    rows = []
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if any(values):
                rows.append((reader.line_num, values))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: this line is no row of a table ({error}).") from None
    if not rows:
        raise DataError(f"{path}: this file is empty.")
    return rows


def _value(row: list[str], column: int) -> str:
    return row[column] if column < len(row) else ""


def _column(heading: list[str], known: Sequence[str]) -> int | None:
    lowered = [value.lower().replace(" ", "_") for value in heading]
    return next((lowered.index(name) for name in known if name in lowered), None)


def _number(path: Path, line: int, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise DataError(f"{path}:{line}: {quoted(text)} is no frequency: give a number, 0 or more.")
    return number


def _find(path: Path, named: Sequence[tuple[int, str]], classes: Sequence[ClassRecord]) -> list[list[int]]:
    """Return the places of the classes that each name stands for."""
    spellings: dict[str, list[int]] = {}
    for texts in (
        [record.source_id for record in classes],
        [record.taxonomy.get("species") for record in classes],
        [record.name for record in classes],
    ):
        own: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            if text:
                own.setdefault(text.casefold(), []).append(place)
        spellings |= own  # a class's name counts before a species of that name, and that before an id
    unknown = [(line, name) for line, name in named if name.casefold() not in spellings]
    if unknown:
        line, name = unknown[0]
        more = f" ({len(unknown)} of {len(named)} names are unknown)" if len(unknown) > 1 else ""
        close = difflib.get_close_matches(name, [record.name for record in classes], n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise DataError(f"{path}:{line}: {quoted(name)} is no class of this model{more}.{hint}")
    return [spellings[name.casefold()] for _, name in named]
