"""Scores of images that a classifier was not fitted on: those of val, or those of train by cross-validation.

N images, C classes, D features.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.classifiers.base import CLASSIFIERS, Classifier
from ltrsys.classifiers.joint import Joint
from ltrsys.errors import DataError
from ltrsys.features.balanced_sgd import balanced_order
from ltrsys.features.bank import BLOCK_ROWS, BankSplit
from ltrsys.files import explained
from ltrsys.progress import progress
from ltrsys.random import Stream, permutation
from ltrsys.second_stage.fitting import Fitter

log = logging.getLogger("ltrsys")

FOLDS = 5
MOST_IMAGES = 50_000
MOST_SCORES = 2**28
"""A gibibyte of float32. Of more images a random sample is taken: one temperature and some quantiles need no more."""

_NUMBERS_AT_ONCE = 2**22
_SEED = 0
"""The same images are taken, and the same folds made, whatever the run's seed."""


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


def of_train(fitter: Fitter, classifier: Classifier[Any]) -> HeldOut:
    """Return the scores of training images by classifiers that were fitted on the others, where there is no val split.

    The images of each class are shared out over five folds; the only image of a class is in every training part, and
    is not scored. A classifier whose fit is expensive is fitted once, without the first fold, and scores that one; one
    that learns nothing from the bank (`calibration_folds`) scores the images that it was trained on. Where the others
    do not suffice for a fit, the classifier that there is scores them, too.

    Every class counts alike, as where tau is chosen on train: so many images of it are taken as of any other, those of
    rare classes more than once. All stays too sure all the same: the backbone has seen these images.
    """
    train = fitter.bank.split("train", classifier.features)
    fold_N = fold_of_row(train)
    rows_N = _balanced(train, np.flatnonzero((fold_N >= 0) & (fold_N < classifier.calibration_folds)))
    if len(rows_N):
        try:
            return _cross_validated(fitter, classifier.name, train, fold_N, rows_N)
        except DataError as error:
            log.warning("%s cannot be cross-validated: %s", classifier.name, error)
    rows_N = _balanced(train, np.arange(len(train)))
    how = "train, on which it was trained: too sure"
    return HeldOut(*_score(classifier, train, rows_N, fitter.device), rows_N, how)


def fold_of_row(train: BankSplit) -> NDArray[np.int64]:
    """Return the fold of each row, 0 to 4, int64 [n]; -1 for the only image of its class.

    The images of each class are in random order and go to one fold after the other, beginning where those of the last
    class have ended; so folds are of one size, and each class is in every training part.
    """
    shuffled = permutation(len(train), seed=_SEED, stream=Stream.CALIBRATION, major=1)
    by_class = shuffled[np.argsort(train.labels[shuffled], kind="stable")]
    several = by_class[train.class_counts[train.labels[by_class]] > 1]
    fold_N = np.full(len(train), -1)
    fold_N[several] = np.arange(len(several)) % FOLDS
    return fold_N


def _cross_validated(
    fitter: Fitter, name: str, train: BankSplit, fold_N: NDArray[np.int64], rows_N: NDArray[np.int64]
) -> HeldOut:
    folds = CLASSIFIERS.get(name).calibration_folds
    scores_NC = torch.empty((len(rows_N), train.num_classes), device=fitter.device)
    context = fitter.context(name)
    asked_for_joint = False

    def joint() -> Joint:
        nonlocal asked_for_joint
        asked_for_joint = True
        return context.joint()

    for fold in range(folds):
        with _copied(train, np.flatnonzero(fold_N != fold), fitter.bank.folder) as part:
            refitted = CLASSIFIERS.get(name).fit(replace(context, train=part, joint=joint), fitter.config.of(name))
        own = np.flatnonzero(fold_N[rows_N] == fold)
        scores_NC[torch.from_numpy(own).to(fitter.device)], _ = _score(refitted, train, rows_N[own], fitter.device)
    how = f"train by {folds}-fold cross-validation" if folds > 1 else "a fifth of train, held out"
    if asked_for_joint:
        how += "; its joint weights were trained on all of it: too sure"
    return HeldOut(scores_NC, torch.from_numpy(train.labels[rows_N]).to(fitter.device), rows_N, how)


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


@contextmanager
def _copied(train: BankSplit, rows_n: NDArray[np.int64], folder: Path) -> Iterator[BankSplit]:
    """Yield a split of some rows, memory-mapped as the bank is: in a file without a name, which ends with its
    process."""
    with explained(folder):
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed below)
    with file:
        with explained(folder):
            for first in range(0, len(rows_n), BLOCK_ROWS):
                file.write(np.ascontiguousarray(train.features[rows_n[first : first + BLOCK_ROWS]]).data)
            file.flush()
        features = np.memmap(file, dtype=np.float32, mode="r", shape=(len(rows_n), train.num_features))
        yield BankSplit(features, train.labels[rows_n], train.num_classes, train.kind, {train.kind: features})
