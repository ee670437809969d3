"""Accuracies of classifiers on the test images of `LongTail`."""

import torch

from ltrsys.classifiers.base import Classifier
from ltrsys.metrics.accuracy import accuracy_by_shot, shot_of_class
from ltrsys.metrics.config import ShotsConfig
from tests.classifiers.conftest import LongTail


def few_and_all(classifier: Classifier, data: LongTail) -> tuple[float, float]:
    """Return the accuracies of the few-shot classes and over all images, in per cent."""
    predictions = classifier.rank(torch.from_numpy(data.test.features), 1)[:, 0].numpy()
    shots = shot_of_class(data.train.class_counts, ShotsConfig())
    accuracy = accuracy_by_shot(data.test.labels, predictions, shots)
    assert accuracy["few"] is not None
    assert accuracy["all"] is not None
    return accuracy["few"], accuracy["all"]
