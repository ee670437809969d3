"""The table of a study: means and spreads over seeds, paired tests, and published numbers beside ours."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ltrsys.metrics.accuracy import heading
from ltrsys.metrics.class_mean import difference_of_shares, paired_test_of_shares
from ltrsys.studies.equal_footing import EQUAL, TradeOff, at_equal_many, trade_off
from ltrsys.studies.measuring import Measured
from ltrsys.studies.study import Row, Study

TITLES = {"top3": "top 3", "top5": "top 5"}


T = TypeVar("T")
_Shares = NDArray[np.float64]
_Comparison = Callable[[NDArray[np.int64], _Shares, _Shares, int], T]


@dataclass(frozen=True)
class Cell:
    """Accuracies of one row in one column, in per cent."""

    mean: float | None
    """Over the seeds; None where there is nothing to measure, or nothing has been measured."""
    spread: float | None
    """Standard deviation over the seeds; None of one seed."""

    def __str__(self) -> str:
        """Return what a table shows."""
        if self.mean is None:
            return "–"
        return f"{self.mean:.1f}" + ("" if self.spread is None else f" ± {self.spread:.1f}")


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    label: str
    section: str
    seeds: int
    """Trainings that are measured."""
    wanted: int
    """Trainings that the study asks for."""
    cells: dict[str, Cell]
    p_value: float | None
    """Of the paired test of the mean over the classes; None for the reference row, or where something is missing."""
    reference: dict[str, float]
    """Published numbers."""
    parameters: str
    difference: tuple[float, float, float] | None = None
    """Of the mean over the classes to that of the row compared with, and the ends of its 95 % interval, in points."""
    few_shot_p_value: float | None = None
    """Of the paired test of the few-shot images at equal many-shot accuracy."""
    trade_off: TradeOff | None = None
    """None where the study does not ask for equal footing, or there is nothing to trade."""


@dataclass(frozen=True)
class StudyTable:
    """All of it."""

    title: str
    source: str | None
    columns: list[str]
    versus: str | None
    lines: list[Line]

    @property
    def reference_columns(self) -> list[str]:
        """The columns of which any published number is given."""
        return [column for column in self.columns if any(column in line.reference for line in self.lines)]

    @property
    def notes(self) -> list[str]:
        """What a reader must know."""
        notes = []
        if any(line.wanted > 1 for line in self.lines):
            notes.append("Means over seeds ± standard deviation, in per cent.")
        if self.versus is not None:
            notes.append(
                f"Difference to {self.versus} of the mean over the classes, with its 95 % interval, and p of a paired "
                "randomisation test: on the same images, of the accuracy that an image has over the seeds. How far "
                "trainings vary is told by the spread alone."
            )
        if FEW_AT_EQUAL in self.columns:
            whom = "the Joint of the same training" if self.versus is None else self.versus
            notes.append(
                "Tilted: scores less t times the logarithm of the class frequency, t the best on val. Few at equal "
                "many: few-shot accuracy at the t where many-shot accuracy is nearest to that of "
                f"{whom}, tilted; none if it comes no nearer than {EQUAL:g} points"
                + ("." if self.versus is None else "; p (few): paired randomisation test of the few-shot images there.")
            )
        if self.reference_columns:
            notes.append(f"Published: {self.source}; not measured here.")
        if unfinished := [line.label for line in self.lines if line.seeds < line.wanted]:
            notes.append(f"Not all trainings are measured: {', '.join(unfinished)}.")
        return notes


def make_table(study: Study, measured: Sequence[Sequence[Measured | None]]) -> StudyTable:
    """Put what was measured, in the order of the rows and of the seeds, into a table."""
    found = [[one for one in seeds if one is not None] for seeds in measured]
    return StudyTable(
        title=study.title,
        source=study.source,
        columns=[*study.columns, *((TILTED_FEW, TILTED_MEAN, FEW_AT_EQUAL) if study.equal_footing else ())],
        versus=study.versus,
        lines=[_line(study, row, own, _against(study, row, found)) for row, own in zip(study.rows, found, strict=True)],
    )


def title_of(column: str) -> str:
    """Return the heading of a column."""
    return TITLES.get(column, heading(column))


def _against(study: Study, row: Row, found: list[list[Measured]]) -> list[Measured]:
    """Return the measurements that those of a row are compared with; none for the row that others are compared with."""
    other = study.compared_with(row)
    return [] if other is None or other is row else found[study.rows.index(other)]


def _line(study: Study, row: Row, found: list[Measured], against: list[Measured]) -> Line:
    equal = at_equal_many(found, against, is_reference=study.compared_with(row) is row)
    return Line(
        label=row.label,
        section=row.section,
        seeds=len(found),
        wanted=0 if row.run is None else len(study.runs[row.run].seeds),
        cells={column: _cell([getattr(one.line, column) for one in found]) for column in study.columns}
        | (_tilted(found) | {FEW_AT_EQUAL: _cell(equal.few)} if study.equal_footing else {}),
        p_value=_compared(paired_test_of_shares, found, against),
        difference=_compared(difference_of_shares, found, against),
        few_shot_p_value=equal.p_value if study.equal_footing else None,
        reference={column: row.reference[column] for column in study.columns if column in row.reference},
        parameters=_parameters(found),
        trade_off=trade_off(found) if study.equal_footing else None,
    )


TILTED_FEW, TILTED_MEAN, FEW_AT_EQUAL = "tilted few", "tilted mean", "few at equal many"


def _tilted(found: list[Measured]) -> dict[str, Cell]:
    """Return the cells of scores that are tilted as is best on val."""
    values = [
        tilt.curve.at(tilt.chosen)
        for tilt in (one.line.tilt for one in found)
        if tilt is not None and tilt.chosen is not None
    ]
    return {
        TILTED_FEW: _cell([value["few"] for value in values]),
        TILTED_MEAN: _cell([value["mean_class_accuracy"] for value in values]),
    }


def _cell(values: Sequence[float | None]) -> Cell:
    some = [value for value in values if value is not None]
    if not some:
        return Cell(None, None)
    return Cell(float(np.mean(some)), float(np.std(some, ddof=1)) if len(some) > 1 else None)


def _compared(how: _Comparison[T], found: list[Measured], against: list[Measured]) -> T | None:
    """Compare the shares of the seeds that recognise each image; None where there is nothing to compare with."""
    if not found or not against or not np.array_equal(found[0].labels, against[0].labels):
        return None
    ours, theirs = (np.mean([one.predictions == one.labels for one in several], axis=0) for several in (found, against))
    return how(found[0].labels, ours, theirs, found[0].num_classes)


def _parameters(found: list[Measured]) -> str:
    from ltrsys.second_stage.grids import described

    if not found:
        return ""
    told: list[str] = []
    for one in found:
        text = described(one.line.classifier, one.line.params, one.line.selected_on)
        if text not in told:
            told.append(text)
    return "; ".join(told)


def as_json(table: StudyTable) -> dict[str, Any]:
    """Return the table as JSON values."""
    return {
        "title": table.title,
        "columns": table.columns,
        "versus": table.versus,
        "rows": [
            {
                "label": line.label,
                "section": line.section,
                "seeds": line.seeds,
                "wanted_seeds": line.wanted,
                "accuracy": {
                    column: {"mean": cell.mean, "standard_deviation": cell.spread}
                    for column, cell in line.cells.items()
                },
                "difference": line.difference,
                "p_value": line.p_value,
                "few_shot_p_value": line.few_shot_p_value,
                "parameters": line.parameters,
                "published": line.reference,
                "trade_off": None if line.trade_off is None else asdict(line.trade_off),
            }
            for line in table.lines
        ],
        "published_source": table.source,
        "notes": table.notes,
    }
