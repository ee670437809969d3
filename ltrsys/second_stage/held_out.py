"""Scores of images that a classifier was not fitted on: those of val, or those of train by cross-validation.

N images, C classes, D features.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.classifiers.base import Classifier
from ltrsys.errors import DataError
from ltrsys.features.balanced_sgd import balanced_order
from ltrsys.features.bank import BLOCK_ROWS, BankSplit
from ltrsys.features.folds import fold_of_row, part_of
from ltrsys.progress import progress
from ltrsys.random import Stream, permutation
from ltrsys.second_stage.temperature import fit_temperature

log = logging.getLogger("ltrsys")

MOST_IMAGES = 50_000
MOST_SCORES = 2**28
"""A gibibyte of float32. Of more images a random sample is taken: one temperature and some quantiles need no more."""

_NUMBERS_AT_ONCE = 2**22
_SEED = 0
"""The same images are taken, whatever the run's seed."""

Refit = Callable[[BankSplit], tuple[Classifier[Any], bool]]
"""From a part of train to a classifier fitted on it, and whether that took the joint one."""


@dataclass(frozen=True)
class HeldOut:
    """Images with the scores of a classifier that was not fitted on them, as far as that could be had."""

    scores_NC: Tensor
    """float32."""
    labels_N: Tensor
    rows_N: NDArray[np.int64]
    """Which images of the split they are; of train some stand there more than once."""
    fitted_on: str
    """Where they are from, in words."""
    lowest_temperature: float = 0.0
    """A lower one is not believed: images that a classifier was trained on cannot show that it should be surer."""

    def temperature(self) -> float:
        """Return the temperature that makes the classifier as sure as it is right on them."""
        return max(self.lowest_temperature, fit_temperature(self.scores_NC, self.labels_N))


def scored(
    classifier: Classifier[Any], split: BankSplit, device: torch.device, rows_N: NDArray[np.int64] | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield scores [n, C], features [n, D] and labels [n] of the rows, all unless given, in so small parts that
    float64 numbers for each of their scores take no more than some dozen megabytes.

    Raises:
        DataError: Where a score is NaN or plus infinity.
    """
    rows_N = np.arange(len(split)) if rows_N is None else rows_N
    at_once = min(BLOCK_ROWS, max(1, _NUMBERS_AT_ONCE // split.num_classes))
    for first in range(0, len(rows_N), at_once):
        features_ND, labels_N = split.rows(rows_N[first : first + at_once], device)
        with torch.inference_mode():  # not around the yield: it would hold for whoever asked
            scores_NC = classifier.scores(features_ND)
        if not bool((scores_NC < torch.inf).all()):
            raise DataError(f"{classifier.name}: gives scores that are NaN or infinite, so no probabilities.")
        yield scores_NC, features_ND, labels_N


def of_val(classifier: Classifier[Any], split: BankSplit, device: torch.device, name: str) -> HeldOut:
    """Return the scores of a split that the classifier was not fitted on."""
    rows_N = _sample(np.arange(len(split)), split.num_classes)
    return HeldOut(*_score(classifier, split, rows_N, device), rows_N, name)


def of_train(
    classifier: Classifier[Any], train: BankSplit, refit: Refit, folder: Path, device: torch.device
) -> HeldOut:
    """Return the scores of training images by classifiers that were fitted on the others, where there is no val split.

    The images of each class are shared out over five folds; the only image of a class is in every training part, and
    is not scored. A classifier whose fit is expensive is fitted once, without the first fold, and scores that one; one
    that learns nothing from the bank (`calibration_folds`) scores the images that it was trained on. Where the others
    do not suffice for a fit, the classifier that there is scores them, too.

    Every class counts alike, as where tau is chosen on train: so many images of it are taken as of any other, those of
    rare classes more than once. All stays too sure all the same: the backbone has seen these images.

    Args:
        classifier: The classifier.
        train: What it was fitted on.
        refit: Fits it on a part of that.
        folder: Where parts may lie.
        device: What is computed on.
    """
    lowest = 1.0 if classifier.trained_as_softmax else 0.0
    fold_N = fold_of_row(train)
    rows_N = _balanced(train, np.flatnonzero((fold_N >= 0) & (fold_N < classifier.calibration_folds)))
    if len(rows_N):
        try:
            scores_NC, how = _cross_validated(classifier, train, refit, fold_N, rows_N, folder, device)
            return HeldOut(scores_NC, torch.from_numpy(train.labels[rows_N]).to(device), rows_N, how, lowest)
        except DataError as error:
            log.warning("%s cannot be cross-validated: %s", classifier.name, error)
    rows_N = _balanced(train, np.arange(len(train)))
    how = "train, on which it was trained: too sure"
    return HeldOut(*_score(classifier, train, rows_N, device), rows_N, how, lowest)


def _cross_validated(
    classifier: Classifier[Any],
    train: BankSplit,
    refit: Refit,
    fold_N: NDArray[np.int64],
    rows_N: NDArray[np.int64],
    folder: Path,
    device: torch.device,
) -> tuple[Tensor, str]:
    """Return the scores of the rows, and where they are from."""
    folds, took_joint = classifier.calibration_folds, False
    scores_NC = torch.empty((len(rows_N), train.num_classes), device=device)
    for fold in range(folds):
        with part_of(train, np.flatnonzero(fold_N != fold), folder) as part:
            refitted, took_joint = refit(part)
        own = np.flatnonzero(fold_N[rows_N] == fold)
        scores_NC[torch.from_numpy(own).to(device)], _ = _score(refitted, train, rows_N[own], device)
    how = f"train by {folds}-fold cross-validation" if folds > 1 else "a fifth of train, held out"
    if took_joint:
        how += "; its joint weights were trained on all of it: too sure"
    return scores_NC, how


def _score(
    classifier: Classifier[Any], split: BankSplit, rows_N: NDArray[np.int64], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return scores and labels of the rows."""
    scores_NC = torch.empty((len(rows_N), split.num_classes), device=device)
    first = 0
    with progress(f"{classifier.name}: scores", len(rows_N)) as advance:
        for block_NC, _, labels_N in scored(classifier, split, device, rows_N):
            scores_NC[first : first + len(labels_N)] = block_NC
            first += len(labels_N)
            advance(len(labels_N))
    return scores_NC, torch.from_numpy(split.labels[rows_N]).to(device)


def _sample(rows_N: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Return the rows, ascending; a random sample of them where they are too many."""
    most = _most(num_classes)
    if len(rows_N) <= most:
        return rows_N
    return np.sort(rows_N[permutation(len(rows_N), seed=_SEED, stream=Stream.CALIBRATION)[:most]])


def _balanced(train: BankSplit, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return as many of the rows of each class, ascending, and no more rows than are scored at most."""
    if not len(rows_N):
        return rows_N
    order = balanced_order(train.labels[rows_N], train.num_classes, seed=_SEED, epoch=0)
    return np.sort(rows_N[order[: _most(train.num_classes)]])


def _most(num_classes: int) -> int:
    return min(MOST_IMAGES, max(1, MOST_SCORES // num_classes))
