"""How often each class is drawn: the sampling weights of an epoch, and the whole numbers they give.

Everything here is integer arithmetic of any length. Floating-point powers differ in their last bit between
machines, and one bit at a rounding edge would give two nodes two different epochs.
"""

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.plan.samplers.base import ClassWeights, Sampler
from ltrsys.errors import UsageError
from ltrsys.random import Stream, words


def class_weights(
    class_counts: NDArray[np.int64], sampler: Sampler, *, epoch: int = 0, num_epochs: int = 1
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
    return sampler.class_weights(counts, epoch, num_epochs)


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
