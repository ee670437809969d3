"""Two classifiers on the same images: differences with their intervals, paired tests, classes gained and lost.

N images, C classes; accuracies and differences are in per cent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ltrsys.metrics.accuracy import MEAN, images_by_shot, paired_test
from ltrsys.metrics.by_class import holm, paired_tests_by_class
from ltrsys.metrics.class_mean import difference_of_shares, paired_test_of_class_mean

MOST_CLASSES = 10
"""Classes that are named of those that gained most, and of those that lost most."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Difference(_Record):
    """A difference of two accuracies, in points."""

    difference: float
    low: float
    high: float
    """The 95 % interval, for other images of these classes."""


class ClassChange(_Record):
    """A class, and what became of its images."""

    class_id: int
    name: str
    train_images: int
    images: int
    gained: int
    """Images that only the second recognises."""
    lost: int
    """Images that only the first recognises."""
    p_value: float
    """McNemar's exact test within the class, by itself."""
    corrected_p_value: float
    """The same, allowing for all classes that are tested (Holm)."""


class Pair(_Record):
    """The second against the first."""

    classifier: str
    first: str
    second: str
    differences: dict[str, Difference | None]
    """Of many, medium, few, all and the mean class accuracy; None where there are no images."""
    gained: int
    """Images that only the second recognises."""
    lost: int
    p_value: float
    """McNemar's exact test, of the accuracy over all images."""
    mean_class_accuracy_p_value: float
    """The randomisation test, of the mean class accuracy."""
    classes_gained: int
    """Classes of which the second recognises more images."""
    classes_lost: int
    classes_tested: int
    """Classes with an image that tells the two apart."""
    most_gained: list[ClassChange]
    most_lost: list[ClassChange]


@dataclass(frozen=True)
class Images:
    """The images that all runs are reported on."""

    labels: NDArray[np.int64]
    """[N]"""
    shot_of_class: NDArray[np.str_]
    """[C], of the first run."""
    names: list[str]
    train_counts: NDArray[np.int64]
    """[C], of the first run."""

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.names)


@dataclass(frozen=True)
class Side:
    """One of the two."""

    run: str
    correct: NDArray[np.bool_]
    """Whether each image is recognised, [N]."""


def compare(classifier: str, first: Side, second: Side, images: Images) -> Pair:
    """Compare the same classifier of two runs."""
    labels, num_classes = images.labels, images.num_classes
    whole = paired_test(second.correct, first.correct)
    changes = _changes(first, second, images)
    return Pair(
        classifier=classifier,
        first=first.run,
        second=second.run,
        differences=_differences(first, second, images),
        gained=whole.gained,
        lost=whole.lost,
        p_value=whole.p_value,
        mean_class_accuracy_p_value=paired_test_of_class_mean(labels, second.correct, first.correct, num_classes),
        classes_gained=sum(change.gained > change.lost for change in changes),
        classes_lost=sum(change.gained < change.lost for change in changes),
        classes_tested=len(changes),
        most_gained=_most([change for change in changes if change.gained > change.lost]),
        most_lost=_most([change for change in changes if change.gained < change.lost]),
    )


def _differences(first: Side, second: Side, images: Images) -> dict[str, Difference | None]:
    """Return the differences of the accuracies over the images of each group, and of the mean over the classes."""
    found = {}
    for column, chosen in images_by_shot(images.labels, images.shot_of_class).items():
        one_class = np.zeros(int(chosen.sum()), dtype=np.int64)  # every image counts as much
        found[column] = _difference(one_class, first.correct[chosen], second.correct[chosen], 1)
    found[MEAN] = _difference(images.labels, first.correct, second.correct, images.num_classes)
    return found


def _difference(
    labels: NDArray[np.int64], first: NDArray[np.bool_], second: NDArray[np.bool_], num_classes: int
) -> Difference | None:
    found = difference_of_shares(labels, second.astype(np.float64), first.astype(np.float64), num_classes)
    return None if found is None else Difference(difference=found[0], low=found[1], high=found[2])


def _changes(first: Side, second: Side, images: Images) -> list[ClassChange]:
    """Return each class with an image that only one of them recognises."""
    labels, num_classes = images.labels, images.num_classes
    gained = np.bincount(labels[second.correct & ~first.correct], minlength=num_classes)
    lost = np.bincount(labels[first.correct & ~second.correct], minlength=num_classes)
    p_values = paired_tests_by_class(labels, second.correct, first.correct, num_classes)
    corrected, counts = holm(p_values), np.bincount(labels, minlength=num_classes)
    return [
        ClassChange(
            class_id=class_id,
            name=images.names[class_id],
            train_images=int(images.train_counts[class_id]),
            images=int(counts[class_id]),
            gained=int(gained[class_id]),
            lost=int(lost[class_id]),
            p_value=float(p_values[class_id]),
            corrected_p_value=float(corrected[class_id]),
        )
        for class_id in np.flatnonzero(gained + lost).tolist()
    ]


def _most(changes: list[ClassChange]) -> list[ClassChange]:
    """Return the classes that changed most in accuracy; of equals, those of more images, which says more."""
    return sorted(changes, key=lambda one: (-abs(one.gained - one.lost) / one.images, -one.images, one.class_id))[
        :MOST_CLASSES
    ]
