"""`results.json`: the accuracies of a run's classifiers, in per cent; null where there is nothing to measure."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ltrsys.classifiers.base import SelectedOn
from ltrsys.data.index.records import SplitName
from ltrsys.errors import DataError, first_problem
from ltrsys.files import read_json, write_json
from ltrsys.metrics.accuracy import SHOTS


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VersusJoint(_Record):
    """McNemar's exact test against the joint classifier, on the same images."""

    gained: int
    """Images that only this classifier gets right."""
    lost: int
    """Images that only the joint classifier gets right."""
    p_value: float


class Line(_Record):
    """One classifier."""

    classifier: str
    many: float | None
    medium: float | None
    few: float | None
    all: float | None
    params: dict[str, Any]
    selected_on: SelectedOn | None
    top3: float | None
    top5: float | None
    mean_class_accuracy: float | None
    confidence_95: dict[str, tuple[float, float] | None]
    """Wilson's interval of many, medium, few and all."""
    versus_joint: VersusJoint | None
    """None for the joint classifier itself."""
    fingerprint: str
    """SHA-256 of all that this line depends on."""


class TauCurve(_Record):
    """Accuracy by tau on the reported split; a picture of the trade-off, not what tau was chosen by."""

    tau: list[float]
    many: list[float | None]
    medium: list[float | None]
    few: list[float | None]
    all: list[float | None]


class Results(_Record):
    """The whole file."""

    format: Literal[1] = 1
    dataset: str
    num_classes: int
    split: SplitName
    classes: dict[str, int]
    """Classes of many, medium and few."""
    images: dict[str, int]
    """Images of the split in many, medium, few and all."""
    results: list[Line]
    tau_curve: TauCurve | None = None

    def line(self, classifier: str) -> Line | None:
        """Return the line of a classifier; None if it is not there."""
        return next((line for line in self.results if line.classifier == classifier), None)


def read_results(path: Path) -> Results:
    """Read `results.json`.

    Raises:
        DataError: Where it is missing or of another format (names the key).
    """
    values = read_json(path, "file of results", "`ltrsys balance` makes one where there is none.")
    try:
        return Results.model_validate(values)
    except ValidationError as error:
        raise DataError(
            f"{path}: not results of format 1: {first_problem(error)}. Delete it and balance again."
        ) from None


def write_results(results: Results, path: Path) -> None:
    """Write `results.json`, whole or not at all."""
    write_json(path, results.model_dump(mode="json"))


def columns_of(line: Line) -> dict[str, float | None]:
    """Return many, medium, few and all of a line."""
    return {column: getattr(line, column) for column in (*SHOTS, "all")}
