"""iNaturalist's tree of life, as far as species and what they belong to."""

import re

import numpy as np

from ltrsys.data.index.records import ClassRecord
from ltrsys.data.sources.tables.columns import RANKS, named_columns
from ltrsys.data.sources.tables.joining import whole_numbers
from ltrsys.data.sources.tables.text_tables import TextTable
from ltrsys.data.sources.tables.values import SharedTexts
from ltrsys.errors import DataError


class Taxa:
    """All taxa, by their numbers."""

    def __init__(self, table: TextTable) -> None:
        """Read them; raises DataError for a table that is damaged or lacks a column."""
        self._place = table.place
        needed = ("taxon_id", "ancestry", "rank", "name")
        texts = {column: (SharedTexts(), [np.zeros(0, np.object_)]) for column in needed[1:]}
        numbers = [np.zeros(0, np.int64)]
        first = 0
        for taxon, *others in table.pieces(named_columns(table.header, needed, table.place)):
            numbers.append(whole_numbers(taxon, "taxon_id", table, first))
            first += len(numbers[-1])
            for (shared, pieces), values in zip(texts.values(), others, strict=True):
                pieces.append(shared(values))
        self._numbers: list[int] = np.concatenate(numbers).tolist()
        self._row_of = {number: row for row, number in enumerate(self._numbers)}
        self._ancestries, self._ranks, self._names = (np.concatenate(pieces) for _, pieces in texts.values())

    def species(self, taxon: int) -> ClassRecord | None:
        """Return the species that a taxon is or is part of; None where it is wider than one, or a hybrid.

        Raises:
            DataError: Where the taxon is not in the table, or has no name.
        """
        row = self._row_of.get(taxon)
        if row is None:
            raise DataError(
                f"{self._place}: there is no taxon {taxon}, which an observation has. Take tables of the same day."
            )
        # Slashes, though the documentation of the tables has backslashes.
        above = re.split(r"[/\\]", self._ancestries[row] or "")
        rows = [self._row_of.get(int(number), -1) for number in above if re.fullmatch("[0-9]{1,18}", number)]
        line = {self._ranks[place]: place for place in (*(place for place in rows if place >= 0), row)}
        if "species" not in line:
            return None
        own = line["species"]
        name = self._names[own]
        if name is None:
            raise DataError(f"{self._place}: the species of taxon {taxon} has no name.")
        taxonomy = {rank: self._names[line[rank]] for rank in RANKS if rank in line and self._names[line[rank]]}
        return ClassRecord(name=name, source_id=str(self._numbers[own]), taxonomy=taxonomy)
