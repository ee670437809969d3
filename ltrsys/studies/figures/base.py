"""What a figure of a study is, and finding the one that a study names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ltrsys.errors import UsageError
from ltrsys.registry import Method, Registry

if TYPE_CHECKING:
    from ltrsys.studies.measuring import Measurer, OpenRow
    from ltrsys.studies.study import OpenStudy, Row
    from ltrsys.studies.table import StudyTable


@dataclass(frozen=True)
class Material:
    """What a figure is drawn of: a study, all rows of which are measured."""

    study: OpenStudy
    table: StudyTable
    measurer: Measurer

    def opened(self, row: Row) -> list[OpenRow]:
        """Return a row of each of its trainings, in the order of the seeds."""
        trainings = self.study.trainings_of(row)
        opened = [self.measurer.open_row(row, training, compute=False) for training in trainings]
        return [one for one in opened if one is not None]


class Figure(Method, ABC):
    """A kind of picture."""

    needs_rows: ClassVar[bool] = True
    """Whether it shows what was measured; False for one that configs and class counts are enough for."""
    places_rows: ClassVar[bool] = False
    """Whether each row says by `x` and `series` where it stands."""

    @classmethod
    def check(cls, study: OpenStudy) -> None:
        """Refuse a study that it cannot be drawn of; called before anything is trained.

        Raises:
            UsageError: Names what is missing.
        """
        return

    @classmethod
    @abstractmethod
    def draw(cls, material: Material, path: Path) -> None:
        """Draw it into `path`, in the format of its suffix.

        Raises:
            UsageError: Where what was measured cannot be drawn.
        """


FIGURES: Registry[type[Figure]] = Registry("figure", "ltrsys.studies.figures")


def figure_of(study: OpenStudy) -> type[Figure] | None:
    """Return the figure that a study names, if it is one that can be drawn of it; None where it names none.

    Raises:
        UsageError: For an unknown kind, or rows that do not fit it.
    """
    kind = study.study.figure
    _ = study.trainings  # reading their configs loads the plug-ins, which may hold a figure
    try:
        figure = None if kind is None else FIGURES.get(kind)
    except UsageError as error:
        raise UsageError(f"{study.path}: figure: {error}") from None
    if figure is None or not figure.places_rows:
        _refuse_places(study)
    if figure is None:
        return None
    if figure.needs_rows and not study.study.rows:
        raise UsageError(f"{study.path}: figure: {kind} shows rows, and the study has none.")
    if figure.places_rows:
        _check_places(study)
    figure.check(study)
    return figure


def _refuse_places(study: OpenStudy) -> None:
    for row in study.study.rows:
        if row.x or row.series:
            kind = study.study.figure
            placed = ", ".join(figure.name for figure in FIGURES if figure.places_rows)
            raise UsageError(
                f"{study.path}: row `{row.label}` has `x` or `series`, which are for figure: {placed}; "
                + ("the study has no figure." if kind is None else f"this one is {kind}.")
            )


def _check_places(study: OpenStudy) -> None:
    taken: dict[tuple[str, str], str] = {}
    for row in study.study.rows:
        for key in ("x", "series"):
            if not getattr(row, key):
                raise UsageError(
                    f"{study.path}: figure: {study.study.figure} places each row, and row `{row.label}` has no `{key}`."
                )
        other = taken.setdefault((row.x, row.series), row.label)
        if other != row.label:
            raise UsageError(
                f"{study.path}: the rows `{other}` and `{row.label}` have one place, x: {row.x}, series: {row.series}."
            )
