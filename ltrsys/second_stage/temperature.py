"""Temperature scaling: one number that makes the probabilities of a classifier as sure as they are right.

Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2. N images, C classes; scores are those of
`ltrsys.classifiers.base.Classifier.scores`, minus infinity for a class that is never predicted.
"""

import math
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

_WIDEST = 1e4
"""The temperature is sought between the spread of the scores divided by this and the spread times this."""

_NUMBERS_AT_ONCE = 2**22
"""Of float64: 32 MB."""

_MANY, _EVERY, _NEAR = 4096, 16, 0.05
"""With as many rows, every sixteenth of them is looked at first; the best logarithm of 1/T of all is sought so near."""


def probabilities(scores_NC: Tensor, temperature: float) -> Tensor:
    """Return softmax(scores / temperature), float64 [N, C]; 0 for a class whose score is minus infinity."""
    return torch.softmax(scores_NC.double() / temperature, dim=1)


def fit_temperature(scores_NC: Tensor, labels_N: Tensor) -> float:
    """Return the temperature with the lowest mean negative log-likelihood of the labels.

    In 1/T the likelihood is convex; the place where its slope is 0 is found by bracketing, from 1/10,000 to 10,000
    times the spread of the scores. An image whose class is never predicted has no likelihood at any temperature, and
    is left out. Where every image is right there is no best temperature, only ever smaller ones: then the one is taken
    at which the mean probability of the answers is (N + 1) / (N + 2), Laplace's rule of succession. Where nothing
    depends on it, as of one class, it is 1.

    Args:
        scores_NC: Scores of images that the classifier was not fitted on, [N, C].
        labels_N: Their classes, int64 [N].
    """
    own_N = scores_NC.gather(1, labels_N[:, None])[:, 0]
    usable = torch.isfinite(own_N)
    if not bool(usable.all()):
        scores_NC, own_N = scores_NC[usable], own_N[usable]
    own_N = own_N.double()
    if not len(own_N):
        return 1.0
    spread = _mean(scores_NC, lambda scores: _average(scores.isfinite().double(), -scores))
    if spread == 0:
        return 1.0
    best_N = scores_NC.amax(dim=1).double()
    if bool((own_N == best_N).all()):
        target = (len(own_N) + 1) / (len(own_N) + 2)
        return _root(
            lambda beta, part: _mean(scores_NC[part], lambda s: torch.softmax(beta * s, 1).amax(1)) - target,
            len(own_N),
            spread,
        )
    regret_N = best_N - own_N  # of the labels, against the best scores
    return _root(
        lambda beta, part: (
            float(regret_N[part].mean()) + _mean(scores_NC[part], lambda s: _average(torch.softmax(beta * s, 1), s))
        ),
        len(own_N),
        spread,
    )


def chunks(scores_NC: Tensor) -> Iterator[Tensor]:
    """Yield the rows in chunks so small that their probabilities fit into a few dozen megabytes."""
    yield from scores_NC.split(max(1, _NUMBERS_AT_ONCE // scores_NC.shape[1]))


def _mean(scores_NC: Tensor, value: Callable[[Tensor], Tensor]) -> float:
    """Return the mean of a value, [n], of scores less the best of each row, float64 [n, C], over all rows."""
    total = 0.0
    for chunk_NC in chunks(scores_NC):
        double = chunk_NC.double()
        total += float(value(double - double.amax(dim=1, keepdim=True)).sum())
    return total / len(scores_NC)


def _average(weights_NC: Tensor, scores_NC: Tensor) -> Tensor:
    """Return the mean of the finite scores of each row, weighted, [N]."""
    finite_NC = scores_NC.masked_fill(scores_NC.isinf(), 0.0)
    return (weights_NC * finite_NC).sum(dim=1) / weights_NC.sum(dim=1)


def _root(slope: Callable[[float, slice], float], num_rows: int, spread: float) -> float:
    """Return the temperature at which a function of 1/T that rises is 0; the end of the range that is nearest to it.

    With many rows it is found for a few of them first, and then for all of them, beginning nearby: the function of
    all rows is dear.

    Args:
        slope: The function of 1/T, for some of the rows.
        num_rows: All of them.
        spread: Of the scores.
    """
    from scipy.optimize import brentq  # takes most of a second to import

    @cache
    def of_some(log_beta: float) -> float:
        return slope(math.exp(log_beta), slice(0, None, _EVERY))

    @cache
    def of_all(log_beta: float) -> float:
        return slope(math.exp(log_beta), slice(None))

    low, high = (math.log(1 / spread) + sign * math.log(_WIDEST) for sign in (-1, 1))
    if num_rows >= _MANY and of_some(low) < 0 < of_some(high):
        nearby = brentq(of_some, low, high, xtol=_NEAR / 10)
        if of_all(nearby - _NEAR) < 0 < of_all(nearby + _NEAR):
            low, high = nearby - _NEAR, nearby + _NEAR
    if of_all(low) >= 0:
        return math.exp(-low)
    if of_all(high) <= 0:
        return math.exp(-high)
    return math.exp(-brentq(of_all, low, high, xtol=1e-10, rtol=1e-10))
