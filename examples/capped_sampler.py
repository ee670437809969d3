"""A sampler of one's own: instance-balanced, but no class counts for more than `cap` images.

plugins: [examples/capped_sampler.py]
data: {sampler: {kind: capped, cap: 50}}
"""

from collections.abc import Sequence

from ltrsys.data.plan.samplers.base import SAMPLERS, Sampler
from ltrsys.section import Count


@SAMPLERS.register
class Capped(Sampler):
    """Classes by their counts, up to `cap`."""

    name = "capped"
    summary = "classes by their counts, up to a cap"
    cap: Count = 100
    """A class with more images is drawn as if it had so many."""

    def weights_of_classes(self, class_counts: Sequence[int], epoch: int, num_epochs: int) -> list[int]:
        """Return min(n_j, cap)."""
        return [min(count, self.cap) for count in class_counts]
