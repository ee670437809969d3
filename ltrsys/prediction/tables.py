"""Predictions as files: CSV, JSON lines, Parquet. The same predictions give the same bytes."""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

from ltrsys.errors import UsageError
from ltrsys.prediction.answers import Answer, Prediction

FIRST_COLUMNS = ("path", "rank", "class_name", "class_id", "probability", "train_images", "shot")
LAST_COLUMNS = ("status", "problem")
ROWS_OF_A_GROUP = 100_000
"""Rows that Parquet compresses together."""


def columns_of(ranks: Sequence[str]) -> list[str]:
    """Return the columns of a table, with those of a taxonomy's ranks."""
    return [*FIRST_COLUMNS, *ranks, *LAST_COLUMNS]


def rows_of(prediction: Prediction, ranks: Sequence[str]) -> list[list[Any]]:
    """Return the rows of an image: one for each class, best first; one that says why, where it cannot be read."""
    after = [prediction.status, prediction.problem]
    if not prediction.answers:
        return [[prediction.path, *[None] * (len(FIRST_COLUMNS) - 1 + len(ranks)), *after]]
    return [
        [prediction.path, rank, *_values(answer), *(answer.taxonomy.get(name) for name in ranks), *after]
        for rank, answer in enumerate(prediction.answers, start=1)
    ]


def _values(answer: Answer) -> tuple[Any, ...]:
    return answer.name, answer.class_id, answer.probability, answer.train_images, answer.shot


class TableWriter(ABC):
    """Writes predictions to a file that is open."""

    def __init__(self, file: IO[bytes], ranks: Sequence[str]) -> None:
        """Begin; `ranks` are those of the classes' taxonomy, from the widest to the narrowest."""
        self.file, self.ranks = file, ranks

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

    def __init__(self, file: IO[bytes], ranks: Sequence[str]) -> None:
        super().__init__(file, ranks)
        self._text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
        self._writer = csv.writer(self._text, lineterminator="\r\n")
        self._writer.writerow(columns_of(ranks))

    def write(self, prediction: Prediction) -> None:
        """Write a row a class; probabilities with six digits, an empty field for what is not known."""
        for row in rows_of(prediction, self.ranks):
            probability = row[4]
            row[4] = None if probability is None else f"{probability:.6f}"
            self._writer.writerow(row)

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

    def __init__(self, file: IO[bytes], ranks: Sequence[str]) -> None:
        import pyarrow
        from pyarrow import parquet

        super().__init__(file, ranks)
        types = {
            "rank": pyarrow.int32(),
            "class_id": pyarrow.int32(),
            "probability": pyarrow.float32(),
            "train_images": pyarrow.int64(),
        }
        columns = columns_of(ranks)
        self._schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in columns])
        self._parquet = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[list[Any]] = []

    def write(self, prediction: Prediction) -> None:
        """Keep the rows until there are enough of them."""
        rows = rows_of(prediction, self.ranks)
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
