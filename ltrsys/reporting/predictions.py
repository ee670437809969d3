"""Some images of the reported split with what each classifier makes of them, to be looked at on a tracker's page."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltrsys.classifiers.base import Classifier
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.reader import BadSample, ShardReader
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.metrics.accuracy import SHOTS
from ltrsys.random import Stream, permutation

MOST_IMAGES = 200
LONGEST_SIDE = 224
"""Pixels; larger images are scaled down."""
OUTCOMES = ("none", "some", "all")
"""How many of the classifiers are right."""


def prediction_table(
    dataset: Dataset, reported: EvaluatedSplit, classifiers: Sequence[Classifier[Any]], seed: int
) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows of up to 200 images, rare classes first, in each what no classifier gets right first.

    The columns are the image, its number in the split, its class, how frequent that is, its training images, how many
    of the classifiers are right; and of each classifier what it predicts, and the score of that, on the classifier's
    own scale. An image that cannot be read is left out.

    Raises:
        DataError: Where the shards are not there.
    """
    labels, shot_of_class = reported.split.labels, reported.shot_of_class
    predicted_KN = np.stack([reported.predictions(classifier) for classifier in classifiers])
    rows = chosen_images(shot_of_class[labels], predicted_KN == labels, seed)
    scores = [_scores(reported, classifier, rows) for classifier in classifiers]
    reader = ShardReader(dataset.split(reported.name))
    try:
        contents = reader.read(rows)
    finally:
        reader.close()
    names = [one.name for one in dataset.record.classes]
    columns = ["image", "number", "class", "shot", "training images", "right"]
    for classifier in classifiers:
        columns += [classifier.name, f"{classifier.name} score"]
    table: list[list[object]] = []
    for place, (row, content) in enumerate(zip(rows.tolist(), contents, strict=True)):
        if isinstance(content, BadSample):
            continue
        label = int(labels[row])
        predicted = predicted_KN[:, row]
        line: list[object] = [
            _picture(content),
            row,
            names[label],
            str(shot_of_class[label]),
            int(reported.train_counts[label]),
            f"{int((predicted == label).sum())} of {len(classifiers)}",
        ]
        for one, score in zip(predicted.tolist(), scores, strict=True):
            line += [names[one], float(score[place])]
        table.append(line)
    return columns, table


def chosen_images(shots_N: NDArray[np.str_], right_KN: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Choose images: as many as can be, up to 200, of each of nine groups, and at random within each.

    The groups are few-, medium- and many-shot classes, in each the images that none of the classifiers gets right, that
    some do, and that all do. What a small group leaves free goes to the others evenly.

    Args:
        shots_N: `many`, `medium` or `few` of each image's class.
        right_KN: Whether each of the K classifiers is right.
        seed: Of the run.

    Returns:
        Their numbers, in the order of the groups and then ascending.
    """
    right_N = right_KN.sum(axis=0)
    outcome_N = np.where(right_N == 0, "none", np.where(right_N == len(right_KN), "all", "some"))
    groups = [
        np.flatnonzero((shots_N == shot) & (outcome_N == outcome)) for shot in reversed(SHOTS) for outcome in OUTCOMES
    ]
    chosen = []
    for place, (group, quota) in enumerate(zip(groups, _quotas([len(group) for group in groups]), strict=True)):
        order = permutation(len(group), seed=seed, stream=Stream.EXAMPLES, major=place)
        chosen.append(np.sort(group[order[:quota]]))
    return np.concatenate(chosen)


def _quotas(sizes: Sequence[int]) -> list[int]:
    """Share `MOST_IMAGES` out evenly, no group getting more than it has; the first groups get what is left over."""
    quotas = [0] * len(sizes)
    while sum(quotas) < min(MOST_IMAGES, sum(sizes)):
        for place, size in enumerate(sizes):
            if quotas[place] < size and sum(quotas) < MOST_IMAGES:
                quotas[place] += 1
    return quotas


def _scores(reported: EvaluatedSplit, classifier: Classifier[Any], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the score of the predicted class of some images, [n]."""
    features_nD, _ = reported.split.of(classifier.features).rows(rows, reported.device)
    return classifier.scores(features_nD).amax(dim=1).float().cpu().numpy()


def _picture(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return image
