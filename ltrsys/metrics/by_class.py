"""Paired tests of two classifiers class by class, and what many tests at once ask for.

N images, C classes.
"""

import numpy as np
from numpy.typing import NDArray


def paired_tests_by_class(
    labels: NDArray[np.int64], correct: NDArray[np.bool_], reference_correct: NDArray[np.bool_], num_classes: int
) -> NDArray[np.float64]:
    """Return the p-value of McNemar's exact test within each class, [C]; NaN where no image tells the two apart.

    Args:
        labels: The class of each image, [N].
        correct: Whether the classifier under test recognised it, [N].
        reference_correct: Whether the other one did, [N].
        num_classes: C.
    """
    from scipy.stats import binom  # takes most of a second to import

    gained = np.bincount(labels[correct & ~reference_correct], minlength=num_classes)
    lost = np.bincount(labels[reference_correct & ~correct], minlength=num_classes)
    differ = gained + lost
    both_sides = 2 * binom.cdf(np.minimum(gained, lost), differ, 0.5)
    return np.where(differ > 0, np.minimum(both_sides, 1.0), np.nan)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values that allow for how many they are: below 0.05, any of them is so by chance with 5 % at most.

    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979. NaN is no test, and
    stays NaN.
    """
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(p_values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted
