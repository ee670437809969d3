"""`results.json`: the accuracies of a run's classifiers, in per cent; null where there is nothing to measure."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ltrsys.classifiers.base import SelectedOn
from ltrsys.data.index.records import SplitName
from ltrsys.errors import DataError, first_problem
from ltrsys.files import read_json, write_json
from ltrsys.metrics.accuracy import ALL_COLUMNS, MEAN


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VersusJoint(_Record):
    """Paired tests against the joint classifier, on the same images."""

    gained: int
    """Images that only this classifier gets right."""
    lost: int
    """Images that only the joint classifier gets right."""
    p_value: float
    """McNemar's exact test, of the accuracy over all images."""
    mean_class_accuracy_p_value: float | None = None
    """The randomisation test, of the mean class accuracy; None in files of format 1."""


class TiltCurve(_Record):
    """Accuracy on the reported split of a classifier whose scores are tilted by -t log pi, by t."""

    t: list[float]
    many: list[float | None]
    medium: list[float | None]
    few: list[float | None]
    all: list[float | None]
    mean_class_accuracy: list[float | None]

    def at(self, t: float) -> dict[str, float | None]:
        """Return the accuracies at one t of the grid, by column."""
        place = self.t.index(t)
        return {column: getattr(self, column)[place] for column in ALL_COLUMNS}


class EqualManyShot(_Record):
    """Few-shot accuracy where the many-shot accuracy is nearest to that of the tilted joint classifier."""

    t: float
    many: float
    few: float
    joint_many: float
    joint_few: float
    p_value: float
    """McNemar's exact test of the few-shot images, against the tilted joint classifier."""


class Tilt(_Record):
    """A classifier over all tilts."""

    curve: TiltCurve
    chosen: float | None
    """The t that is best on val by `balance.select_by`; None where there is no val split to choose it on."""
    equal_many_shot: EqualManyShot | None
    """None for the joint classifier itself, and where there are no many- or no few-shot images."""
    fingerprint: str
    """SHA-256 of all that this depends on."""


class ReliabilityBins(_Record):
    """Images by confidence, in bins of as many each, for a reliability diagram."""

    confidence: list[float]
    """Mean confidence in each bin, from 0 to 1."""
    accuracy: list[float]
    """Share of right answers in each bin, from 0 to 1."""
    images: list[int]


class Reliability(_Record):
    """How far confidence is from accuracy."""

    calibration_error: dict[str, float | None]
    """Expected calibration error of many, medium, few and all, in per cent, over 15 bins of as many images each."""
    calibration_error_equal_width: dict[str, float | None]
    """The same over 15 bins of equal width, as most papers tell it."""
    bins: ReliabilityBins


class ReachedPrecision(_Record):
    """What answering only from a confidence on comes to."""

    wanted: float
    """The precision that was asked for, from 0 to 1."""
    threshold: float | None
    """The confidence from which on an image is answered; None where no threshold shows that precision."""
    precision: dict[str, float | None]
    """Of the answered images of many, medium, few and all, in per cent."""
    answered: dict[str, float | None]
    """The share of the images that is answered, in per cent."""


class PredictionSets(_Record):
    """Prediction sets of one conformity, which are to hold the right class with a probability of 90 %."""

    coverage: dict[str, float | None]
    """How often they hold it: many, medium, few, all and the mean over the classes, in per cent."""
    mean_size: dict[str, float | None]
    """Classes in a set, of many, medium, few and all."""
    median_size: dict[str, float | None]


class CalibrationLine(_Record):
    """How sure a classifier is, measured on the reported split."""

    temperature: float
    fitted_on: str
    """The images that it was fitted on: "val", or another way in words."""
    fitted_images: int
    before: Reliability
    """At temperature 1."""
    after: Reliability
    precisions: list[ReachedPrecision]
    sets: PredictionSets
    """By the probability p."""
    adjusted_sets: PredictionSets
    """By p / pi."""
    fingerprint: str
    """SHA-256 of all that this depends on."""


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
    """Wilson's interval of many, medium, few and all, the bootstrap's of the mean class accuracy; format 1 lacks it."""
    versus_joint: VersusJoint | None
    """Against the classifier that `Results.reference` names; None for that itself."""
    fingerprint: str
    """SHA-256 of all that this line depends on, `tilt` and `calibration` aside."""
    tilt: Tilt | None = None
    """None where `balance.tilt_grid` is empty, and in files of format 1."""
    calibration: CalibrationLine | None = None
    """None where `balance.calibrate` is false, and in older files."""

    @property
    def complete(self) -> bool:
        """Whether it has all that is measured now; lines of format 1 lack what is told of the mean class accuracy."""
        tested = self.versus_joint is None or self.versus_joint.mean_class_accuracy_p_value is not None
        return MEAN in self.confidence_95 and tested


class TauCurve(_Record):
    """Accuracy by tau on the reported split; a picture of the trade-off, not what tau was chosen by."""

    tau: list[float]
    many: list[float | None]
    medium: list[float | None]
    few: list[float | None]
    all: list[float | None]
    mean_class_accuracy: list[float | None] | None = None
    """None in files of format 1."""


class ImagesPerClass(_Record):
    """How even the split is."""

    smallest: int
    """Images of the class that has the fewest, of those that have any."""
    largest: int
    empty_classes: int
    """Classes without an image, which count in no mean."""

    @property
    def balanced(self) -> bool:
        """Whether all classes have as many images: then `all` and the mean over the classes are one."""
        return self.smallest == self.largest


class Results(_Record):
    """The whole file."""

    format: Literal[1, 2] = 2
    dataset: str
    num_classes: int
    split: SplitName
    classes: dict[str, int]
    """Classes of many, medium and few."""
    images: dict[str, int]
    """Images of the split in many, medium, few and all."""
    images_per_class: ImagesPerClass | None = None
    """None in files of format 1, and of a split without images."""
    reference: Annotated[str, Field(exclude_if=lambda value: value == "joint")] = "joint"
    """The classifier that the lines are compared with."""
    results: list[Line]
    tau_curve: TauCurve | None = None

    @property
    def balanced(self) -> bool | None:
        """Whether all classes of the split have as many images; None where that is not known."""
        return None if self.images_per_class is None else self.images_per_class.balanced

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
            f"{path}: not results of format 1 or 2: {first_problem(error)}. Delete it and balance again."
        ) from None


def write_results(results: Results, path: Path) -> None:
    """Write `results.json`, whole or not at all."""
    write_json(path, results.model_dump(mode="json"))


def columns_of(line: Line) -> dict[str, float | None]:
    """Return many, medium, few, all and the mean class accuracy of a line, in this order."""
    return {column: getattr(line, column) for column in ALL_COLUMNS}
