"""Choosing the settings of a classifier among those of its grid: on val, or on train by cross-validation."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltrsys.classifiers.base import Classifier, FitContext
from ltrsys.features.bank import BankSplit
from ltrsys.features.folds import fold_of_row, part_of
from ltrsys.metrics.accuracy import score
from ltrsys.metrics.config import SelectBy
from ltrsys.second_stage.grids import Grid, combinations, with_values
from ltrsys.section import Section


@dataclass(frozen=True)
class Trial:
    """Images to fit candidates on, and others to tell by which is the best."""

    fitted_on: BankSplit
    judged_on: BankSplit


def trial_on_val(context: FitContext, val: BankSplit) -> Iterator[Trial]:
    """Yield the one trial of a run with a val split that may be selected on."""
    yield Trial(context.train, val)


def trials_on_train(context: FitContext, folds: int, folder: Path) -> Iterator[Trial]:
    """Yield the trials of a cross-validation: the images of each class are shared out, each fold judged once.

    Args:
        context: Of the fit.
        folds: How many folds are judged: one of a classifier whose fit is expensive.
        folder: Where parts of the bank may lie.
    """
    fold_N = fold_of_row(context.train)
    for fold in range(folds):
        with (
            part_of(context.train, np.flatnonzero(fold_N != fold), folder) as others,
            part_of(context.train, np.flatnonzero(fold_N == fold), folder) as held_out,
        ):
            yield Trial(others, held_out)


def best_values(
    classifier: type[Classifier[Any]],
    section: Section,
    grid: Grid,
    context: FitContext,
    trials: Iterator[Trial],
    select_by: SelectBy,
) -> dict[str, Any]:
    """Return the values of a grid with the best score over all trials; of equals, those that are tried first.

    Args:
        classifier: What is fitted.
        section: Its other settings.
        grid: What is tried.
        context: Of the fit, but for the images.
        trials: The images.
        select_by: What the best is told by.
    """
    values = combinations(grid)
    candidates = [with_values(section, one) for one in values]
    labels: list[NDArray[np.int64]] = []
    predictions: list[NDArray[np.int64]] = []
    for trial in trials:
        fits = replace(context, train=trial.fitted_on)
        predictions.append(classifier.sweep(fits, candidates, trial.judged_on))
        labels.append(trial.judged_on.labels)
    truth = np.concatenate(labels)
    scores = [
        score(truth, row, context.train.num_classes, select_by) or 0.0 for row in np.concatenate(predictions, axis=1)
    ]
    return values[int(np.argmax(scores))]
