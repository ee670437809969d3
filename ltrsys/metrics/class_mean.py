"""The mean over the classes of their accuracies: itself, its confidence interval, and a paired test.

Where val and test have the frequencies of the training images, the accuracy over all images is that of the frequent
classes; this mean counts every class once. On a balanced split the two are equal to the last bit.

N images, C classes. The size of a class is the number of its images in the split; a class without any counts nowhere.
"""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ltrsys.random import Stream, uniforms

DRAWS = 10_000
"""Of the interval and of the test: their ends and p-values then come from other draws to about 1 % of themselves."""

_SEED = 0
"""The same images and predictions have the same interval and p-value, whatever the run's seed."""

_EQUAL = 1e-12
"""Relative: sums that differ by less are equal in exact numbers, their terms having been added in another order."""

_WITHIN_95 = 1.959964
"""Standard deviations within which a normal number lies with 95 %."""


def mean_class_accuracy(labels: NDArray[np.int64], predictions: NDArray[np.int64], num_classes: int) -> float | None:
    """Return the mean over the classes of their accuracies, in per cent; None of no images.

    It is exact until its last rounding, so that equally good predictions are equal whichever classes they are good at,
    and that it is the accuracy over all images where all classes have as many.

    Args:
        labels: The class of each image, [N].
        predictions: The class that was predicted for it, [N].
        num_classes: C.
    """
    sizes, correct = _by_class(labels, labels == predictions, num_classes)
    if not len(sizes):
        return None
    total = sum((Fraction(int(correct[sizes == size].sum()), int(size)) for size in np.unique(sizes)), Fraction())
    return float(100 * total / len(sizes))


def interval_of_class_mean(
    labels: NDArray[np.int64], correct: NDArray[np.bool_], num_classes: int
) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of the mean class accuracy, in per cent; None of no images.

    The percentile bootstrap over images within classes. An image is right or wrong, so what a resampling of a class
    counts is binomial, and is drawn as such: all classes of one size and one accuracy at once. Drawing n of a class's n
    images makes intervals too narrow by (n - 1)/n in variance, much for classes of three images; so n - 1 are drawn
    (Rao and Wu, "Resampling inference with complex survey data", JASA 83, 1988). The only image of a class
    says nothing of how its class varies: classes of one image are resampled together, as if they were one class, which
    is wide rather than narrow (collapsed strata: Cochran, "Sampling Techniques", 1977, section 5A.12).

    Args:
        labels: The class of each image, [N].
        correct: Whether it was recognised, [N].
        num_classes: C.
    """
    sizes, right = _by_class(labels, correct, num_classes)
    if not len(sizes):
        return None
    means = np.zeros(DRAWS)
    for size, hits, classes in _alike(sizes, right):
        if size == 1:
            continue
        drawn = _binomial(classes * (size - 1), hits / size, stream=Stream.BOOTSTRAP, major=size, minor=hits)
        means += drawn / (size - 1)
    single = int((sizes == 1).sum())
    hits = int(right[sizes == 1].sum())
    if single > 1:
        means += _binomial(single - 1, hits / single, stream=Stream.BOOTSTRAP, major=1) * (single / (single - 1))
    else:
        means += hits
    low, high = np.percentile(100 * means / len(sizes), [2.5, 97.5]).tolist()
    return low, high


def paired_test_of_class_mean(
    labels: NDArray[np.int64], correct: NDArray[np.bool_], reference_correct: NDArray[np.bool_], num_classes: int
) -> float:
    """Return how probable a difference of two mean class accuracies at least so large is by chance; two-sided.

    The randomisation test of matched pairs (Fisher, "The Design of Experiments", 1935, section 21; for systems that
    saw the same items: Noreen, "Computer-Intensive Methods for Testing Hypotheses", 1989). Were both classifiers
    equally good on every image, an image that only one gets right would fall to either with probability 1/2; a flip
    moves the difference by the weight of the image, one over the size of its class. Flips are random, and the observed
    difference counts as one of them (Phipson and Smyth, "Permutation p-values should never be zero", 2010), so that no
    p-value is below 1/(DRAWS + 1). Where all images that tell the two apart have one weight, as on a balanced split,
    this is McNemar's test, which is computed exactly.

    Args:
        labels: The class of each image, [N].
        correct: Whether the classifier under test recognised it, [N].
        reference_correct: Whether the other one did, [N].
        num_classes: C.
    """
    size_of_image = np.bincount(labels, minlength=num_classes)[labels]
    gained, lost = correct & ~reference_correct, reference_correct & ~correct
    sizes = np.unique(size_of_image[gained | lost]).tolist()
    if not sizes:
        return 1.0
    counts = [
        (size, int((gained & (size_of_image == size)).sum()), int((lost & (size_of_image == size)).sum()))
        for size in sizes
    ]
    if len(counts) == 1:
        from scipy.stats import binomtest  # takes most of a second to import

        _, gains, losses = counts[0]
        return float(binomtest(gains, gains + losses).pvalue)
    observed, flipped = 0.0, np.zeros(DRAWS)
    for size, gains, losses in counts:
        differ = gains + losses
        observed += (gains - losses) / size
        flipped += (2 * _binomial(differ, 0.5, stream=Stream.SIGN_FLIPS, major=size) - differ) / size
    extreme = int((np.abs(flipped) >= abs(observed) * (1 - _EQUAL)).sum())
    return (1 + extreme) / (1 + DRAWS)


def paired_test_of_shares(
    labels: NDArray[np.int64],
    shares: NDArray[np.float64],
    reference_shares: NDArray[np.float64],
    num_classes: int,
) -> float:
    """Return the two-sided p-value of a paired test of the mean class accuracy of several classifiers of a kind.

    The randomisation test of `paired_test_of_class_mean`, of the share of the classifiers that recognise an image in
    place of whether one does. It says whether the difference holds for other images, not for other trainings.

    Args:
        labels: The class of each image, [N].
        shares: The share of the classifiers under test that recognise it, from 0 to 1, [N].
        reference_shares: The same of the others, [N].
        num_classes: C.
    """
    size_of_image = np.bincount(labels, minlength=num_classes)[labels]
    difference = shares - reference_shares
    differ = np.abs(difference) > _EQUAL
    if not differ.any():
        return 1.0
    # images of one size of class and one amount of difference are flipped together
    amounts = np.round(np.abs(difference[differ]), 9)
    kinds, kind_of_image = np.unique(np.stack([size_of_image[differ], amounts]), axis=1, return_inverse=True)
    observed, flipped = 0.0, np.zeros(DRAWS)
    for number, (size, amount) in enumerate(kinds.T.tolist()):
        signs = np.sign(difference[differ][kind_of_image.reshape(-1) == number])
        observed += amount * float(signs.sum()) / size
        drawn = _binomial(len(signs), 0.5, stream=Stream.SIGN_FLIPS, major=int(size), minor=number)
        flipped += amount * (2 * drawn - len(signs)) / size
    extreme = int((np.abs(flipped) >= abs(observed) * (1 - _EQUAL)).sum())
    return (1 + extreme) / (1 + DRAWS)


def difference_of_shares(
    labels: NDArray[np.int64],
    shares: NDArray[np.float64],
    reference_shares: NDArray[np.float64],
    num_classes: int,
) -> tuple[float, float, float] | None:
    """Return the difference of two mean class accuracies and its 95 % interval, in points; None of no images.

    The interval of paired images in strata, which are the classes (Cochran, "Sampling Techniques", 1977, section 5.3),
    by the normal distribution; classes of one image are taken as one stratum, which is wide rather than narrow (5A.12).
    It is for other images, not for other trainings.

    Args:
        labels: The class of each image, [N].
        shares: The share of the classifiers under test that recognise it, from 0 to 1, [N].
        reference_shares: The same of the others, [N].
        num_classes: C.
    """
    if not len(labels):
        return None
    gains = shares - reference_shares
    sizes = np.bincount(labels, minlength=num_classes)
    means = np.bincount(labels, weights=gains, minlength=num_classes)[sizes > 0] / sizes[sizes > 0]
    squares = np.bincount(labels, weights=gains**2, minlength=num_classes)[sizes > 0]
    sizes = sizes[sizes > 0]
    several, single = sizes > 1, means[sizes == 1]
    n = sizes[several]
    variance = float(((squares[several] - n * means[several] ** 2) / (n - 1) / n).sum())
    if len(single) > 1:
        variance += len(single) * float(single.var(ddof=1))
    difference, half = float(means.mean()), _WITHIN_95 * max(variance, 0.0) ** 0.5 / len(sizes)
    return 100 * difference, 100 * (difference - half), 100 * (difference + half)


def _by_class(
    labels: NDArray[np.int64], correct: NDArray[np.bool_], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the images of each class that has some, and how many of them are correct."""
    sizes = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels[correct], minlength=num_classes)
    return sizes[sizes > 0], right[sizes > 0]


def _alike(sizes: NDArray[np.int64], right: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Yield each size and number of correct images that classes have, and how many classes have both."""
    pairs, classes = np.unique(np.stack([sizes, right]), axis=1, return_counts=True)
    for (size, hits), count in zip(pairs.T.tolist(), classes.tolist(), strict=True):
        yield size, hits, count


def _binomial(trials: int, probability: float, *, stream: Stream, major: int, minor: int = 0) -> NDArray[np.int64]:
    """Draw binomial numbers, int64 [DRAWS], by inverting their distribution.

    NumPy's own may draw other ones in another version.
    """
    from scipy.stats import binom  # takes most of a second to import

    below = binom.cdf(np.arange(trials), trials, probability)
    return np.searchsorted(below, uniforms(DRAWS, seed=_SEED, stream=stream, major=major, minor=minor), side="right")
