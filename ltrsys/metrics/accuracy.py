"""Accuracy by shot, its confidence intervals, and paired tests between classifiers.

N test images, C classes. Accuracies are in per cent; an empty group of classes has none: None, never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltrsys.metrics.class_mean import interval_of_class_mean, mean_class_accuracy
from ltrsys.metrics.config import SelectBy, ShotsConfig

SHOTS = ("many", "medium", "few")
COLUMNS = (*SHOTS, "all")
"""The columns of the paper's tables; `all` is the mean over the images, not over the three others."""

MEAN = "mean_class_accuracy"
"""What stands beside them: the mean over the classes of their accuracies."""

ALL_COLUMNS = (*COLUMNS, MEAN)
"""What is told of a classifier, in files by these keys and in words by their headings."""


def heading(column: str) -> str:
    """Return what a column is called where there is little room."""
    return "mean" if column == MEAN else column


def shot_of_class(train_counts: NDArray[np.int64], shots: ShotsConfig) -> NDArray[np.str_]:
    """Name the group of each class, [C], by its number of training images (paper, section 5.1)."""
    return np.where(train_counts > shots.many, "many", np.where(train_counts < shots.few, "few", "medium"))


def accuracy_by_shot(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], shot_of_class: NDArray[np.str_]
) -> dict[str, float | None]:
    """Return the top-1 accuracy of many, medium, few and all, in per cent.

    Args:
        labels: The class of each image, [N].
        predictions: The class that was predicted for it, [N].
        shot_of_class: The group of each class, [C], as the function of that name gives it.
    """
    correct = labels == predictions
    return {column: percentage(correct[chosen]) for column, chosen in images_by_shot(labels, shot_of_class).items()}


def accuracy_by_column(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], shot_of_class: NDArray[np.str_]
) -> dict[str, float | None]:
    """Return the accuracies of `accuracy_by_shot`, and the mean class accuracy, in per cent."""
    return {
        **accuracy_by_shot(labels, predictions, shot_of_class),
        MEAN: mean_class_accuracy(labels, predictions, len(shot_of_class)),
    }


def images_by_shot(labels: NDArray[np.int64], shot_of_class: NDArray[np.str_]) -> dict[str, NDArray[np.bool_]]:
    """Return for many, medium, few and all which of the images, bool [N], belong to it."""
    shot_of_image = shot_of_class[labels]
    return {shot: shot_of_image == shot for shot in SHOTS} | {"all": np.ones(len(labels), dtype=np.bool_)}


def percentage(correct: NDArray[np.bool_]) -> float | None:
    """Return the share of true values in per cent; None of nothing."""
    return 100.0 * int(correct.sum()) / len(correct) if len(correct) else None


def class_accuracy(labels: NDArray[np.int64], correct: NDArray[np.bool_], num_classes: int) -> NDArray[np.float64]:
    """Return each class's accuracy in per cent, [C]; NaN for a class without an image."""
    images = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels[correct], minlength=num_classes)
    return np.divide(100.0 * right, images, out=np.full(num_classes, np.nan), where=images > 0)


def score(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], num_classes: int, select_by: SelectBy
) -> float | None:
    """Return what the best predictions are chosen by, in per cent; None of no images.

    On a balanced split it is the same number for either `select_by`, to the last bit.

    Args:
        labels: The class of each image, [N].
        predictions: The class that was predicted for it, [N].
        num_classes: C.
        select_by: Which mean.
    """
    if select_by == "accuracy":
        return percentage(labels == predictions)
    return mean_class_accuracy(labels, predictions, num_classes)


def wilson_interval(correct: int, total: int) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of an accuracy, in per cent.

    Wilson's score interval (1927): unlike the normal approximation, it holds at few images and near 0 or 100.
    """
    if total == 0:
        return None
    from scipy.stats import binomtest  # takes most of a second to import

    interval = binomtest(correct, total).proportion_ci(confidence_level=0.95, method="wilson")
    return 100 * float(interval.low), 100 * float(interval.high)


@dataclass(frozen=True)
class PairedTest:
    """McNemar's exact test of two classifiers on the same images."""

    gained: int
    """Images that only the classifier under test got right."""
    lost: int
    """Images that only the other one, the reference, got right."""
    p_value: float
    """How probable a difference at least so large is, were both equally good; two-sided."""


def paired_test(correct: NDArray[np.bool_], reference_correct: NDArray[np.bool_]) -> PairedTest:
    """Compare two classifiers, each given by whether it was right, bool [N], on the same images in one order.

    Only images on which they differ tell them apart; under the null hypothesis each of those falls to either
    side with probability 1/2 (McNemar 1947, in its exact binomial form).
    """
    from scipy.stats import binomtest  # takes most of a second to import

    gained = int((correct & ~reference_correct).sum())
    lost = int((reference_correct & ~correct).sum())
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return PairedTest(gained, lost, p_value)


@dataclass(frozen=True)
class Evaluation:
    """All that is measured of one classifier on one split; every accuracy is in per cent."""

    accuracy: dict[str, float | None]
    """Top-1, of many, medium, few and all."""
    confidence_95: dict[str, tuple[float, float] | None]
    """Wilson's interval of each of those, and the bootstrap's of the mean."""
    top3: float | None
    top5: float | None
    mean_class_accuracy: float | None


def evaluate_ranking(
    labels: NDArray[np.int64], ranking: NDArray[np.int64], shot_of_class: NDArray[np.str_]
) -> Evaluation:
    """Evaluate a classifier by its classes [N, k], best first, k up to 5; with fewer than 5 classes k is C."""
    correct = ranking[:, 0] == labels
    hits = ranking == labels[:, None]
    chosen = images_by_shot(labels, shot_of_class)
    return Evaluation(
        accuracy=accuracy_by_shot(labels, ranking[:, 0], shot_of_class),
        confidence_95={
            column: wilson_interval(int(correct[images].sum()), int(images.sum())) for column, images in chosen.items()
        }
        | {MEAN: interval_of_class_mean(labels, correct, len(shot_of_class))},
        top3=percentage(hits[:, :3].any(axis=1)),
        top5=percentage(hits[:, :5].any(axis=1)),
        mean_class_accuracy=mean_class_accuracy(labels, ranking[:, 0], len(shot_of_class)),
    )


def classes_by_shot(shot_of_class: NDArray[np.str_]) -> Mapping[str, int]:
    """Count the classes of many, medium and few."""
    return {shot: int((shot_of_class == shot).sum()) for shot in SHOTS}
