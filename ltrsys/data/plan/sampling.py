"""How often each class is drawn: the paper's sampling weights, and the whole numbers they give for an epoch.

Everything here is integer arithmetic of any length. Floating-point powers differ in their last bit between
machines, and one bit at a rounding edge would give two nodes two different epochs.
"""

import hashlib
import json
from dataclasses import dataclass
from decimal import Context, Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.config import SamplerConfig
from ltrsys.errors import UsageError
from ltrsys.random import Stream, words

_DECIMAL = Context(prec=40)
_SCALE = 10**24
"""Irrational weights are rounded to this fraction of one."""


@dataclass(frozen=True)
class ClassWeights:
    """Sampling weights of all classes: p_j = `weights[j]` / sum(`weights`)."""

    weights: list[int]
    """At this epoch."""
    before: list[int]
    """Summed over the epochs before this one, on the same scale: how far sampling has got."""

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """p_j, float64 [num_classes], summing to 1 up to rounding."""
        total = sum(self.weights)
        return np.array([weight / total for weight in self.weights])


def class_weights(
    class_counts: NDArray[np.int64], sampler: SamplerConfig, *, epoch: int = 0, num_epochs: int = 1
) -> ClassWeights:
    """Return the sampling weights of one epoch (paper, equations 1 and 2).

    Args:
        class_counts: Training images of each class, int64 [num_classes]. An empty class is never drawn.
        sampler: Which weights.
        epoch: Counted from 0; the paper's t is `epoch + 1`.
        num_epochs: The paper's T, for progressively-balanced sampling.

    Raises:
        UsageError: Where every weight is zero, or a file of weights does not fit.
    """
    counts = [int(count) for count in class_counts]
    if not any(counts):
        raise UsageError("no class has a training image: there is nothing to sample.")
    if sampler.kind == "progressive":
        return _progressive(counts, epoch, num_epochs)
    if sampler.kind == "weights":
        assert sampler.weights is not None
        weights = _weights_from_file(sampler.weights, counts)
    else:
        weights = _powers(counts, _exponent(sampler))
    return ClassWeights(weights, [epoch * weight for weight in weights])


def weights_digest(sampler: SamplerConfig) -> str | None:
    """Return the SHA-256 of the file of class weights; None where the sampler needs none.

    Raises:
        UsageError: Where it cannot be read.
    """
    return None if sampler.weights is None else hashlib.sha256(_read(sampler.weights)).hexdigest()


def quotas(weights: list[int], draws: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return how many of `draws` each class gets, int64 [num_classes]: systematic stochastic rounding.

    Class j gets floor(draws * p_j) or one more, `draws * p_j` in expectation, and all get `draws` together:
    the classes' shares are laid end to end, and one random offset decides where the whole numbers fall.
    """
    total = sum(weights)
    random = int.from_bytes(words(4, seed=seed, stream=Stream.QUOTAS, major=epoch).astype("<u8").tobytes(), "little")
    offset = random * total >> 256
    quota = np.empty(len(weights), dtype=np.int64)
    laid, given = offset, 0
    for class_id, weight in enumerate(weights):
        laid += draws * weight
        quota[class_id] = laid // total - given
        given = laid // total
    return quota


def _exponent(sampler: SamplerConfig) -> Decimal:
    if sampler.kind == "power":
        return Decimal(repr(sampler.q))
    return {
        "instance": Decimal(1),
        "square_root": Decimal("0.5"),
        "class_balanced": Decimal(0),
        "class_aware": Decimal(0),
    }[sampler.kind]


def _powers(counts: list[int], q: Decimal) -> list[int]:
    """n_j**q on a common integer scale (equation 1): exact for q = 0 and 1, to 24 decimals otherwise."""
    if q == q.to_integral_value():
        power = {count: count ** int(q) for count in set(counts)}
    else:
        power = {
            count: int((_DECIMAL.power(Decimal(count), q) * _SCALE).to_integral_value()) for count in set(counts) - {0}
        }
    return [power[count] if count else 0 for count in counts]


def _progressive(counts: list[int], epoch: int, num_epochs: int) -> ClassWeights:
    """(1 - t/T) n_j/n + (t/T) /C, times T*n*C so that it is whole (equation 2)."""
    if not 0 <= epoch < num_epochs:
        raise UsageError(f"progressive sampling has no epoch {epoch}: it goes from 0 to {num_epochs - 1}.")
    images, classes = sum(counts), sum(count > 0 for count in counts)

    def weights(epochs: int, sum_of_t: int) -> list[int]:
        return [
            (epochs * num_epochs - sum_of_t) * classes * count + sum_of_t * images if count else 0 for count in counts
        ]

    return ClassWeights(weights(1, epoch + 1), weights(epoch, epoch * (epoch + 1) // 2))


def _weights_from_file(path: Path, counts: list[int]) -> list[int]:
    content = _read(path)
    try:
        values = json.loads(content)
    except ValueError as error:
        raise _unreadable(path, error) from None
    numbers = isinstance(values, list) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
        for value in values
    )
    if not numbers:
        raise UsageError(f"{path}: class weights are a JSON list of numbers that are finite and not negative.")
    if len(values) != len(counts):
        raise UsageError(f"{path}: has {len(values)} weights for {len(counts)} classes. Give one weight per class id.")
    weights = [int(Decimal(repr(value)) * _SCALE) if count else 0 for value, count in zip(values, counts, strict=True)]
    if not any(weights):
        raise UsageError(f"{path}: no class with a training image has a weight above zero.")
    return weights


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UsageError:
    return UsageError(f"{path}: cannot read class weights: {error}. Give a JSON list of numbers.")
