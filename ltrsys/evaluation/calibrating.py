"""How sure classifiers are on the reported split: calibration error, what thresholds reach, what sets cover."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.calibration.calibration import Calibration
from ltrsys.calibration.reliability import bins
from ltrsys.classifiers.base import Classifier
from ltrsys.evaluation.results import (
    CalibrationLine,
    Line,
    PredictionSets,
    ReachedPrecision,
    Reliability,
    ReliabilityBins,
)
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.features.bank import fingerprint
from ltrsys.metrics.accuracy import accuracy_by_column, images_by_shot, percentage
from ltrsys.progress import progress
from ltrsys.second_stage.held_out import scored
from ltrsys.second_stage.store import Fitted
from ltrsys.second_stage.temperature import probabilities

VERSION = 1
"""Raised when the same inputs come to give other numbers: those of before are measured anew."""

COVERAGE = 0.9
PRECISIONS = (0.9, 0.95, 0.99)

Shots = dict[str, NDArray[np.bool_]]
"""Which images belong to many, medium, few and all, bool [N] each."""


@dataclass(frozen=True)
class _Measured:
    """What each image of the split comes to, [N] each."""

    before: NDArray[np.float64]
    """Confidence at temperature 1."""
    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    covered: NDArray[np.bool_]
    size: NDArray[np.int64]
    adjusted_covered: NDArray[np.bool_]
    adjusted_size: NDArray[np.int64]


def with_calibration(line: Line, fitted: Fitted, calibration: Calibration | None, reported: EvaluatedSplit) -> Line:
    """Return the line with its calibration; the one that it has, if nothing that it depends on has changed.

    Args:
        line: Of the classifier.
        fitted: The classifier.
        calibration: Its calibration; None to leave it out of the line.
        reported: What it is measured on.
    """
    if calibration is None:
        return line.model_copy(update={"calibration": None})
    current = fingerprint([VERSION, reported.line_fingerprint(fitted.fingerprint), calibration.fingerprint])
    if line.calibration is not None and line.calibration.fingerprint == current:
        return line
    measured = _measure(fitted.classifier, calibration, reported)
    labels, shot_of_class = reported.split.labels, reported.shot_of_class
    shots = images_by_shot(labels, shot_of_class)
    of_line = CalibrationLine(
        temperature=calibration.temperature,
        fitted_on=calibration.fitted_on,
        fitted_images=calibration.num_images,
        before=_reliability(measured.before, measured.correct, shots),
        after=_reliability(measured.confidence, measured.correct, shots),
        precisions=[_reached(precision, calibration, measured, shots) for precision in PRECISIONS],
        sets=_sets(measured.covered, measured.size, reported),
        adjusted_sets=_sets(measured.adjusted_covered, measured.adjusted_size, reported),
        fingerprint=current,
    )
    return line.model_copy(update={"calibration": of_line})


def _measure(classifier: Classifier[Any], calibration: Calibration, reported: EvaluatedSplit) -> _Measured:
    split = reported.split.of(classifier.features)
    parts: list[list[Tensor]] = []
    with progress(f"{classifier.name}: how sure on {reported.name}", len(split)) as advance:
        for scores_NC, _, labels_N in scored(classifier, split, reported.device):
            probabilities_NC = calibration.probabilities(scores_NC)
            confidence_N, answer_N = probabilities_NC.max(dim=1)
            part = [probabilities(scores_NC, 1.0).amax(dim=1), confidence_N, answer_N == labels_N]
            for adjusted in (False, True):
                sets_NC = calibration.prediction_sets(probabilities_NC, COVERAGE, adjusted=adjusted)
                part += [sets_NC.gather(1, labels_N[:, None])[:, 0], sets_NC.sum(dim=1)]
            parts.append(part)
            advance(len(labels_N))
    return _Measured(*(torch.cat(columns).cpu().numpy() for columns in zip(*parts, strict=True)))


def _reliability(confidence: NDArray[np.float64], correct: NDArray[np.bool_], shots: Shots) -> Reliability:
    def errors(*, equal_mass: bool) -> dict[str, float | None]:
        return {
            column: bins(confidence[chosen], correct[chosen], equal_mass=equal_mass).calibration_error
            for column, chosen in shots.items()
        }

    drawn = bins(confidence, correct, equal_mass=True)
    return Reliability(
        calibration_error=errors(equal_mass=True),
        calibration_error_equal_width=errors(equal_mass=False),
        bins=ReliabilityBins(
            confidence=drawn.confidence_B.tolist(), accuracy=drawn.accuracy_B.tolist(), images=drawn.images_B.tolist()
        ),
    )


def _reached(wanted: float, calibration: Calibration, measured: _Measured, shots: Shots) -> ReachedPrecision:
    threshold = calibration.threshold(wanted)
    answered = measured.confidence >= (np.inf if threshold is None else threshold)
    return ReachedPrecision(
        wanted=wanted,
        threshold=threshold,
        precision={column: percentage(measured.correct[chosen & answered]) for column, chosen in shots.items()},
        answered={column: percentage(answered[chosen]) for column, chosen in shots.items()},
    )


def _sets(covered: NDArray[np.bool_], size: NDArray[np.int64], reported: EvaluatedSplit) -> PredictionSets:
    labels, shot_of_class = reported.split.labels, reported.shot_of_class
    shots = images_by_shot(labels, shot_of_class)
    return PredictionSets(
        # a class is covered as it is recognised: -1 is none
        coverage=accuracy_by_column(labels, np.where(covered, labels, -1), shot_of_class),
        mean_size={column: _of_some(np.mean, size[chosen]) for column, chosen in shots.items()},
        median_size={column: _of_some(np.median, size[chosen]) for column, chosen in shots.items()},
    )


def _of_some(average: Callable[..., Any], sizes: NDArray[np.int64]) -> float | None:
    return float(average(sizes)) if len(sizes) else None
