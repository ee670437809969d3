"""Which classes there may be, and how frequent they are where the pictures come from.

A classifier's probabilities are right for some frequencies q of the classes: those of the training images for one that
was trained on them as they are, equal ones for one that was re-balanced. Where the frequencies are known to be r, the
rule of Bayes gives p'(y|x) ~ p(y|x) r(y) / q(y) (Saerens et al., 2002, equation 2.4).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltrsys.classifiers.base import Classifier
from ltrsys.config.schema import Config


def trained_frequencies(config: Config, train_counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the class frequencies for which the network's own probabilities are right, float64 [C], summing to 1.

    Those with which the last epoch drew its images, times the loss's weights of the classes, without what the loss
    leaves out of the logits.
    """
    epochs, loss = config.train.epochs, config.train.loss
    drawn_C = config.data.sampler.class_weights(train_counts.tolist(), epochs - 1, epochs).probabilities
    weights_C = loss.class_weights(train_counts)
    if weights_C is not None and loss.from_epoch < epochs:
        drawn_C = drawn_C * weights_C
    frequencies_C = drawn_C / np.maximum(train_counts, 1) ** loss.power_left_out
    total = frequencies_C.sum()
    return frequencies_C / total if total > 0 else np.full(len(train_counts), 1 / len(train_counts))


def log_shift(
    classifier: Classifier[Any], config: Config, train_counts: NDArray[np.int64], wanted_C: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return log r - log q, float64 [C], which is added to log-probabilities; minus infinity where r is 0.

    Args:
        classifier: Says what q is.
        config: Of the run: says what the network was trained on.
        train_counts: Training images of each class, [C]. A class of none counts as one image in q: else a
            class that is never trained on would be preferred to all others.
        wanted_C: r, of any scale.
    """
    trained_C = trained_frequencies(config, np.maximum(train_counts, 1))
    own_C = classifier.class_frequencies(trained_C, train_counts)
    smallest = own_C[own_C > 0].min()
    with np.errstate(divide="ignore"):
        return np.log(wanted_C) - np.log(np.maximum(own_C, smallest))
