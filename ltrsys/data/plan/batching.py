"""Which global positions form which micro-batch, and which rank runs it.

A step takes `batch_size` consecutive positions and deals them, one by one, to its micro-batches. A micro-batch
holds the same samples whatever the number of ranks, so that BatchNorm sees the same groups; of W ranks, each
runs the micro-batches that are alike modulo W. Since the number of lanes is a multiple of W, a rank meets only its
own lanes; `lanes_modulo_ranks` says which.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.plan.lanes import lanes_modulo_ranks
from ltrsys.errors import UsageError
from ltrsys.world import World


@dataclass(frozen=True)
class Batching:
    """The division of an epoch's positions into steps, micro-batches and ranks."""

    batch_size: int
    """Samples of one optimizer step, over all ranks."""
    micro_batch_size: int
    """Samples that go through the network at once."""
    world: World
    lanes: int
    samples_per_draw: int = 1
    """Images that are drawn together: a batch holds all of them or none."""

    def __post_init__(self) -> None:
        ranks = self.world.world_size
        if self.lanes % ranks:
            below = max(divisor for divisor in range(1, ranks + 1) if self.lanes % divisor == 0)
            raise UsageError(
                f"data.lanes={self.lanes} cannot be dealt evenly to {ranks} ranks; run on {below} ranks, or make "
                f"data.lanes a multiple of {ranks} (which changes the order of the samples)."
            )
        if self.batch_size % (self.micro_batch_size * ranks):
            raise UsageError(
                f"train.batch_size={self.batch_size} is not a multiple of {ranks} ranks times "
                f"train.micro_batch_size={self.micro_batch_size}; change one of the three."
            )
        if self.batch_size % self.samples_per_draw:
            raise UsageError(
                f"train.batch_size={self.batch_size} would cut the {self.samples_per_draw} images of a class that are "
                "drawn together; make it a multiple of data.sampler.samples_per_draw."
            )

    @property
    def accumulation(self) -> int:
        """Micro-batches that this rank runs in one step."""
        return self.batch_size // (self.micro_batch_size * self.world.world_size)

    def steps_per_epoch(self, samples_per_epoch: int) -> int:
        """Return the number of whole batches; an incomplete last one is dropped.

        Raises:
            UsageError: Where an epoch is shorter than a batch.
        """
        if samples_per_epoch < self.batch_size:
            raise UsageError(
                f"an epoch has {samples_per_epoch} samples, fewer than train.batch_size={self.batch_size}; "
                "lower train.batch_size or raise data.samples_per_epoch."
            )
        return samples_per_epoch // self.batch_size

    def positions(self, step: int, accumulated: int) -> NDArray[np.int64]:
        """Return the global positions of one micro-batch of this rank, int64 [micro_batch_size].

        Args:
            step: The optimizer step within the epoch.
            accumulated: Micro-batches this rank has already run in the step.
        """
        return self._first_positions + (step * self.batch_size + accumulated * self.world.world_size)

    @cached_property
    def _first_positions(self) -> NDArray[np.int64]:
        micro_batches = self.batch_size // self.micro_batch_size
        first_micro_batch = int(lanes_modulo_ranks(self.lanes, self.world.world_size)[self.world.rank])
        return first_micro_batch + micro_batches * np.arange(self.micro_batch_size)


def part_of_a_rank(batch_size: int, world: World) -> int:
    """Return how many samples of a batch each rank takes.

    Raises:
        UsageError: Where they do not split evenly.
    """
    if batch_size % world.world_size:
        raise UsageError(
            f"train.batch_size={batch_size} does not split evenly over {world.world_size} ranks; choose a multiple of "
            f"{world.world_size}."
        )
    return batch_size // world.world_size


def micro_batch_size(configured: int | str | None, batch_size: int, world: World) -> int:
    """Return `train.micro_batch_size`; without one, each rank takes its part of the batch at once.

    Raises:
        UsageError: Where the batch does not split evenly.
    """
    return configured if isinstance(configured, int) else part_of_a_rank(batch_size, world)
