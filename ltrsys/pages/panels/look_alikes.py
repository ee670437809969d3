"""Look-alikes: the classes that are most often taken for one another, with an image of both."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import SplitName
from ltrsys.pages.model import Part
from ltrsys.pages.panels.base import PANELS, Material, Panel

MOST_PAIRS = 50


class Pair(Part):
    """Two classes, and how many images of each are taken for the other."""

    classes: tuple[int, int]
    confused: tuple[int, int]
    """Images of the first that are taken for the second, and the other way round."""
    pictures: tuple[int | None, int | None]
    """Of each, an image that is taken for the other, if there is one; places in the page's pictures."""


class LookAlikesData(Part):
    """The pairs of each classifier."""

    pairs: dict[str, list[Pair]]
    """By the name of the classifier, most confused first."""


@PANELS.register
class LookAlikes(Panel):
    """The most confused pairs of each classifier."""

    name = "look_alikes"
    summary = "the most confused pairs of classes, with pictures"
    title = "Look-alikes"
    explanation = (
        "The pairs of classes that are most often taken for one another. Each picture is an image that was mistaken "
        "for the other class, if there is one. Pairs that a person would confuse too may need better photographs or "
        "a joint class; others point to wrong labels."
    )
    order = 30

    @classmethod
    def data(cls, material: Material) -> Part:
        """Count the pairs of each classifier."""
        run = material.run
        found = {name: list(_pairs(material, run.predictions.of(fitted))) for name, fitted in run.fitted.items()}
        return LookAlikesData(pairs=found)


def most_confused(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], num_classes: int, most: int
) -> list[tuple[int, int]]:
    """Return the pairs of classes that most images are confused between, the lower id first.

    Of pairs of as many images, the one comes first whose classes have the fewer.

    Args:
        labels: The class of each image, [N].
        predictions: The class that was predicted for it, [N].
        num_classes: C.
        most: How many pairs at most.
    """
    wrong = labels != predictions
    low, high = np.minimum(labels, predictions)[wrong], np.maximum(labels, predictions)[wrong]
    pairs, counts = np.unique(low * num_classes + high, return_counts=True)
    low, high = pairs // num_classes, pairs % num_classes
    images = np.bincount(labels, minlength=num_classes)
    order = np.lexsort((pairs, images[low] + images[high], -counts))[:most]
    return list(zip(low[order].tolist(), high[order].tolist(), strict=True))


def _pairs(material: Material, predictions: NDArray[np.int64]) -> Iterator[Pair]:
    labels = material.run.reported.split.labels
    rows_of_class = material.run.reported.split.rows_of_class
    for first, second in most_confused(labels, predictions, material.run.dataset.num_classes, MOST_PAIRS):
        mistaken = [
            rows_of_class[one][predictions[rows_of_class[one]] == other]
            for one, other in ((first, second), (second, first))
        ]
        yield Pair(
            classes=(first, second),
            confused=(len(mistaken[0]), len(mistaken[1])),
            pictures=(_picture(material, first, mistaken[0]), _picture(material, second, mistaken[1])),
        )


def _picture(material: Material, class_id: int, mistaken: NDArray[np.int64]) -> int | None:
    """Return the picture of a mistaken image of a class, or else of any of its images."""
    run = material.run
    split: SplitName = run.reported.name
    rows = mistaken if len(mistaken) else run.reported.split.rows_of_class[class_id]
    if not len(rows):
        split, rows = "train", run.bank.split("train").rows_of_class[class_id]
    return material.thumbnails.of(run.dataset, split, int(rows[0])) if len(rows) else None
