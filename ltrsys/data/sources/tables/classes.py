"""The classes that the rows of tables name."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import ClassRecord
from ltrsys.data.sources.files.text_files import names_alike, quoted
from ltrsys.data.sources.lists import MAX_CLASSES
from ltrsys.data.sources.tables.columns import RANKS
from ltrsys.data.sources.tables.values import coded
from ltrsys.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("ltrsys")

_WHOLE_NUMBER = re.compile(r"([0-9]{1,18})(\.0*)?")


@dataclass
class _Class:
    name: str | None
    taxonomy: dict[str, str] = field(default_factory=dict)


class ClassTable:
    """The classes that rows name, by a number (label) or by a name."""

    def __init__(self) -> None:
        self._by_label: bool | None = None
        self._numbers: dict[str | int, int] = {}
        self._firsts: list[Callable[[], str]] = []
        """Where each class stands first; asked for only in errors, since it takes long to tell."""
        self._classes: list[_Class] = []
        self._contradictions: list[tuple[int, str, str]] = []
        """Classes with the rank and the taxon that the first row of each says otherwise."""

    def numbers(
        self,
        label: "pa.Array | None",
        name: "pa.Array | None",
        taxa: "Mapping[str, pa.Array]",
        where: Callable[[int], str],
    ) -> NDArray[np.int64]:
        """Return the number of the class of each row, in the order in which classes were met.

        Args:
            label: The column of the labels. Where it is not of numbers and there are no names, it is their column.
            name: The column of the names.
            taxa: The columns of the taxonomy, by rank.
            where: Names the place of a row of this piece.

        Raises:
            DataError: For a row without a class, a label that is no number where the first is one, and two names of
                one label.
        """
        columns = [coded(values) for values in (label, name, *taxa.values()) if values is not None]
        combined = columns[0][0]
        for codes, texts in columns[1:]:
            combined = np.unique(combined * len(texts) + codes, return_inverse=True)[1]
        _, firsts, combination_of = np.unique(combined, return_index=True, return_inverse=True)
        number_of = np.empty(len(firsts), dtype=np.int64)
        for combination in np.argsort(firsts).tolist():  # so that the first wrong row is the one that is named
            row = int(firsts[combination])
            values: list[str | None] = [texts[codes[row]] for codes, texts in columns]
            own_label = values.pop(0) if label is not None else None
            own_name = values.pop(0) if name is not None else None
            number = self._number(own_label, own_name, label is not None, name is not None, partial(where, row))
            self._add_taxa(number, dict(zip(taxa, values, strict=True)))
            number_of[combination] = number
        return number_of[combination_of]

    def finished(self, num_classes: int | None, place: str) -> tuple[list[ClassRecord], NDArray[np.int32]]:
        """Return the classes in the order of their ids, and the id of each number, [numbers].

        Raises:
            UsageError: Where the number of classes was given and they are told by names.
            DataError: Where labels are out of range, or most up to the highest have no row.
        """
        if self._contradictions:
            number, rank, taxon = self._contradictions[0]
            log.warning(
                "%s: rows of a class differ in its taxonomy, %d times, such as in its %s: %s, and %s at %s, which is "
                "taken.",
                place,
                len(self._contradictions),
                rank,
                quoted(taxon),
                quoted(self._classes[number].taxonomy[rank]),
                self._firsts[number](),
            )
        if not self._by_label:
            if num_classes is not None:
                raise UsageError(f"--num-classes is for labels that are numbers; those of {place} are names.")
            names = sorted(str(name) for name in self._numbers)
            if alike := names_alike(names):
                log.warning(
                    "%s: %s differ in case or in accents only, and become classes of their own. Write them alike if "
                    "they are one.",
                    place,
                    alike,
                )
            order = [self._numbers[name] for name in names]
            ids = np.empty(len(order), dtype=np.int32)
            ids[order] = np.arange(len(order))
            return [self._record(number, name, name) for name, number in zip(names, order, strict=True)], ids
        labels = np.array(list(self._numbers), dtype=np.int64)
        self._check(labels, num_classes)
        self._refuse_two_of_one_name()
        records = [
            self._record(self._numbers[label], f"class {label}", str(label))
            if label in self._numbers
            else ClassRecord(name=f"class {label}", source_id=str(label))
            for label in range(num_classes or int(labels.max()) + 1)
        ]
        return records, labels.astype(np.int32)

    def _record(self, number: int, name: str, source_id: str) -> ClassRecord:
        own = self._classes[number]
        taxonomy = {rank: own.taxonomy[rank] for rank in RANKS if rank in own.taxonomy}
        return ClassRecord(name=own.name or name, source_id=source_id, taxonomy=taxonomy)

    def _number(
        self, label: str | None, name: str | None, has_label: bool, has_name: bool, where: Callable[[], str]
    ) -> int:
        if has_label and label is None:
            raise DataError(f"{where()}: the label is empty. Each image needs one: fill it in or remove the row.")
        if has_name and name is None:
            raise DataError(f"{where()}: the class name is empty. Each image needs one: fill it in or remove the row.")
        for what, text in ("label", label), ("class name", name):
            if text is not None and "\n" in text:
                raise DataError(
                    f"{where()}: the {what} has several lines: {quoted(text[:80])}. Perhaps a quote is not closed. "
                    "Close it, or write the name in one line."
                )
        digits = _WHOLE_NUMBER.fullmatch(label) if label is not None else None
        by_label = has_label and (has_name or digits is not None or self._by_label is True)
        if self._by_label is None:
            self._by_label = by_label
        key: Any = name or label
        if self._by_label:
            if not has_label:
                raise DataError(f"{where()}: this table has no column of labels, as the one before has.")
            if digits is None:
                raise DataError(
                    f"{where()}: the label {quoted(str(label))} is not a whole number of 0 or more. If the column "
                    "holds names: --columns name=COLUMN."
                )
            key = int(digits[1])
        elif by_label:
            raise DataError(
                f"{where()}: the label {quoted(str(label))} is a number, and others are names. If the column holds "
                "names: --columns name=COLUMN."
            )
        number = self._numbers.setdefault(key, len(self._classes))
        if number == len(self._classes):
            self._classes.append(_Class(name))
            self._firsts.append(where)
        elif self._by_label and name is not None and self._classes[number].name not in (None, name):
            raise DataError(
                f"{where()}: label {key} is called {quoted(name)} here, and {quoted(str(self._classes[number].name))} "
                f"first, at {self._firsts[number]()}. Correct one of them."
            )
        return number

    def _add_taxa(self, number: int, taxa: Mapping[str, str | None]) -> None:
        own = self._classes[number].taxonomy
        for rank, taxon in taxa.items():
            if taxon is not None and own.setdefault(rank, taxon) != taxon:
                self._contradictions.append((number, rank, taxon))

    def _check(self, labels: NDArray[np.int64], num_classes: int | None) -> None:
        highest = int(labels.max())
        first = self._firsts[int(labels.argmax())]
        if highest >= (num_classes or MAX_CLASSES):
            limit = f"with --num-classes {num_classes}" if num_classes else "without --num-classes"
            raise DataError(
                f"{first()}: label {highest} is out of range: {limit} labels go from 0 to "
                f"{(num_classes or MAX_CLASSES) - 1}. If they are no such numbers but ids: --columns name=COLUMN."
            )
        if num_classes is None and 2 * len(labels) < highest + 1:
            raise DataError(
                f"{first()}: label {highest} would make {highest + 1} classes, and only {len(labels)} of them have an "
                f"image. Say --num-classes {highest + 1} if it is right, or --columns name=COLUMN if labels are ids."
            )

    def _refuse_two_of_one_name(self) -> None:
        first_of: dict[str, int] = {}
        for number, own in enumerate(self._classes):
            if own.name is not None and (first := first_of.setdefault(own.name, number)) != number:
                raise DataError(
                    f"{self._firsts[number]()}: the class name {quoted(own.name)} has another label first, at "
                    f"{self._firsts[first]()}. Correct one, or leave the labels out: --columns name=COLUMN."
                )
