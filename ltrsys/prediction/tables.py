"""Predictions as files: CSV, JSON lines, Parquet. The same predictions give the same bytes."""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from ltrsys.errors import UsageError
from ltrsys.prediction.answers import Prediction

FIRST_COLUMNS = ("path", "rank", "class_name", "class_id", "probability", "train_images", "shot")
TAXON_COLUMNS = ("taxon_rank", "taxon", "taxon_probability")
UNLIKENESS_COLUMNS = ("energy_share", "distance_share")
LAST_COLUMNS = ("status", "problem")
ROWS_OF_A_GROUP = 100_000
"""Rows that Parquet compresses together."""


@dataclass(frozen=True)
class Layout:
    """The columns of a table."""

    ranks: Sequence[str] = ()
    """Of the classes' taxonomy, from the widest to the narrowest."""
    taxon: bool = False
    """Whether it tells the finest group that is sure enough."""
    unlikeness: bool = False

    @property
    def columns(self) -> list[str]:
        """Their names."""
        taxon, unlikeness = TAXON_COLUMNS * self.taxon, UNLIKENESS_COLUMNS * self.unlikeness
        return [*FIRST_COLUMNS, *self.ranks, *taxon, *unlikeness, *LAST_COLUMNS]

    def rows(self, prediction: Prediction, number: Callable[[float], Any] = float) -> list[list[Any]]:
        """Return the rows of an image: one for each class, best first; one that says why, where it cannot be read.

        Args:
            prediction: What is said of it.
            number: What stands for a probability or a share.
        """
        after: list[Any] = []
        if self.taxon:
            taxon = prediction.taxon
            after += [None] * 3 if taxon is None else [taxon.rank, taxon.name, number(taxon.probability)]
        if self.unlikeness:
            found = prediction.unlikeness
            after += [None] * 2 if found is None else [number(found.energy_share), number(found.distance_share)]
        after += [prediction.status, prediction.problem]
        if not prediction.answers:
            return [[prediction.path, *[None] * (len(FIRST_COLUMNS) - 1 + len(self.ranks)), *after]]
        return [
            [
                prediction.path,
                rank,
                answer.name,
                answer.class_id,
                number(answer.probability),
                answer.train_images,
                answer.shot,
                *map(answer.taxonomy.get, self.ranks),
                *after,
            ]
            for rank, answer in enumerate(prediction.answers, start=1)
        ]


class TableWriter(ABC):
    """Writes predictions to a file that is open."""

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        """Begin; the file stays open to whoever opened it."""
        self.file, self.layout = file, layout

    @abstractmethod
    def write(self, prediction: Prediction) -> None:
        """Write what is said of one image."""

    def close(self) -> None:
        """Write what is still to be written."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()


class CSVWriter(TableWriter):
    """RFC 4180: UTF-8, a heading, lines that end in CR and LF."""

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        super().__init__(file, layout)
        self._text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        self._writer = csv.writer(self._text, lineterminator="\r\n")
        self._writer.writerow(layout.columns)

    def write(self, prediction: Prediction) -> None:
        """Write a row a class; probabilities and shares with six digits, an empty field for what is not known."""
        self._writer.writerows(self.layout.rows(prediction, "{:.6f}".format))

    def close(self) -> None:
        """Leave the file open to whoever opened it."""
        self._text.detach()


class JSONLinesWriter(TableWriter):
    """A JSON object an image, a line each."""

    def write(self, prediction: Prediction) -> None:
        """Write a line."""
        self.file.write(json.dumps(prediction.to_json()).encode() + b"\n")


class ParquetWriter(TableWriter):
    """The columns and rows of the CSV, typed."""

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        import pyarrow
        from pyarrow import parquet

        super().__init__(file, layout)
        types = {
            **dict.fromkeys(("rank", "class_id"), pyarrow.int32()),
            **dict.fromkeys(("probability", "taxon_probability", *UNLIKENESS_COLUMNS), pyarrow.float32()),
            "train_images": pyarrow.int64(),
        }
        self._schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in layout.columns])
        self._parquet = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[list[Any]] = []

    def write(self, prediction: Prediction) -> None:
        """Keep the rows until there are enough of them."""
        rows = self.layout.rows(prediction)
        for row in rows:
            row[0] = (
                row[0].encode(errors="backslashreplace").decode()
            )  # a path need not be UTF-8, a text of Parquet must
        self._rows += rows
        if len(self._rows) >= ROWS_OF_A_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the rows that are left, and the end of the file."""
        self._flush()
        self._parquet.close()

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            arrays = [
                pyarrow.array(list(values), field.type)
                for values, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
            ]
            self._parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema))
            self._rows = []


WRITERS: dict[str, type[TableWriter]] = {".csv": CSVWriter, ".jsonl": JSONLinesWriter, ".parquet": ParquetWriter}


def writer_for(path: Path) -> type[TableWriter]:
    """Return what writes a file of this ending.

    Raises:
        UsageError: For another ending.
    """
    if path.suffix.lower() not in WRITERS:
        raise UsageError(f"--out {path}: give it one of the endings {', '.join(WRITERS)}.")
    return WRITERS[path.suffix.lower()]
