"""Progressively-balanced sampling (paper, equation 2)."""

from collections.abc import Sequence

from ltrsys.data.plan.samplers.base import SAMPLERS, ClassWeights, Sampler
from ltrsys.errors import UsageError


@SAMPLERS.register
class Progressive(Sampler):
    """From instance-balanced to class-balanced over the training."""

    name = "progressive"
    summary = "from instance-balanced to class-balanced over the epochs"
    source = "Kang et al., 2020, equation 2"
    order = 40
    changes_with_epoch = True

    def weights_of_classes(self, class_counts: Sequence[int], epoch: int, num_epochs: int) -> list[int]:
        """Return (1 - t/T) n_j/n + (t/T) /C, times T n C so that it is whole; the paper's t is `epoch + 1`."""
        return _sum_over_epochs(class_counts, num_epochs, 1, epoch + 1)

    def class_weights(self, class_counts: list[int], epoch: int, num_epochs: int) -> ClassWeights:
        """Return the weights, and their sum over the epochs before in closed form."""
        if not 0 <= epoch < num_epochs:
            raise UsageError(f"progressive sampling has no epoch {epoch}: it goes from 0 to {num_epochs - 1}.")
        now = self.weights_of_classes(class_counts, epoch, num_epochs)
        return ClassWeights(now, _sum_over_epochs(class_counts, num_epochs, epoch, epoch * (epoch + 1) // 2))


def _sum_over_epochs(class_counts: Sequence[int], num_epochs: int, epochs: int, sum_of_t: int) -> list[int]:
    """Return the weights, as `weights_of_classes` states them, summed over epochs whose t make `sum_of_t` together."""
    images, classes = sum(class_counts), sum(count > 0 for count in class_counts)
    return [
        (epochs * num_epochs - sum_of_t) * classes * count + sum_of_t * images if count else 0 for count in class_counts
    ]
