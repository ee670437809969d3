"""Plan + reader + pipeline → batches of tensors."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.data.config import DataConfig
from ltrsys.data.index.dataset import Split
from ltrsys.data.loading.augmentation import Augmentation, evaluation_augmentation, training_augmentation
from ltrsys.data.loading.feed import Batches, Feed
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Plan, Planner
from ltrsys.data.reading.quarantine import Quarantine, replacements
from ltrsys.errors import LtrsysError
from ltrsys.world import World

IMAGES_OF_A_BLOCK = 1024
"""Training images whose augmentation is drawn together: a few images cost as much as some hundred."""

LOOK_AHEAD_STEPS = 1 + 1 + 1
"""Steps whose images are read before the step at hand is over, so that all ranks can agree to stop before one fails:
that step itself, `ltrsys.training.supervision.requests.LAG_STEPS` until the agreement is read, and one more, since a
checkpoint discards an agreement that is pending."""


@dataclass(frozen=True)
class Batch:
    """B images of a split."""

    images: Tensor
    """[B, 3, H, W], normalised, on the device; float32, or in training as `data.pixels` says."""
    labels: Tensor
    """int64 [B], on the device."""
    samples: Tensor
    """int64 [B]: sample ids, on the CPU; in the place of a bad sample, the one that replaces it."""
    positions: NDArray[np.int64]
    """[B]: global positions within the epoch; in evaluation the sample ids, those of bad samples included."""


class TrainLoader:
    """The micro-batches of this rank, in the order of the plan.

    From step s of an epoch on, they are the same whether the steps before were made or not: bit for bit on
    the CPU.
    """

    def __init__(
        self,
        split: Split,
        config: DataConfig,
        *,
        planner: Planner,
        batching: Batching,
        seed: int,
        device: torch.device,
        channels_last: bool = False,
        quarantine: Quarantine | None = None,
    ) -> None:
        """Build the pipeline.

        Args:
            split: The training images.
            config: Crops, colours, image size, threads.
            planner: Which sample stands where.
            batching: Which positions this rank takes.
            seed: Of the augmentation.
            device: Where the batches are wanted.
            channels_last: Whether the images' memory format is torch's channels_last.
            quarantine: Where bad samples go; without one, the first of them ends the epoch.

        Raises:
            UsageError: Where decoding on a GPU is asked for and `device` is none.
        """
        self._split, self._config, self._planner, self._batching, self._seed = split, config, planner, batching, seed
        self._device = device
        self._feed = Feed(
            split,
            config,
            batch_size=batching.micro_batch_size,
            device=device,
            training=True,
            channels_last=channels_last,
            quarantine=quarantine,
            look_ahead=LOOK_AHEAD_STEPS * batching.accumulation,
        )

    @property
    def stall_seconds(self) -> float:
        """Time that the device has waited for data so far, as far as it is known."""
        return self._feed.stall.seconds

    @property
    def failure(self) -> LtrsysError | None:
        """What will end the epoch in one of the next `LOOK_AHEAD_STEPS` steps; None where nothing is known."""
        return self._feed.failure

    @property
    def bytes_fetched(self) -> int:
        """Bytes that have come from a server, for shards behind a URL."""
        return self._feed.reader.bytes_fetched

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the micro-batches of an epoch from step `first_step` on, `accumulation` for each step.

        Leaving early is fine; the next call ends the iterator of the last one.

        Raises:
            UsageError: Where the epoch is shorter than a batch.
            DataError: Where a shard or an image in it is damaged; it names the sample.
        """
        plan = self._planner.epoch(epoch)
        steps = self._batching.steps_per_epoch(len(plan)) - first_step
        work = _Training(self._split, self._config, plan, self._batching, self._seed, epoch, first_step, steps)
        return _with_labels(self._feed.batches(work), work, self._split, self._device)

    def close(self) -> None:
        """Drop what is in work and give up threads, memory and files."""
        self._feed.close()


class EvaluationLoader:
    """Samples r, r + W, r + 2W, ... of the split on rank r of W, each once; the last batch may be smaller.

    A bad image ends the iteration unless there is a quarantine, which is meant for training images alone: what is
    measured on other images is another measurement.
    """

    def __init__(
        self,
        split: Split,
        config: DataConfig,
        *,
        batch_size: int,
        world: World,
        device: torch.device,
        channels_last: bool = False,
        quarantine: Quarantine | None = None,
    ) -> None:
        """Build the pipeline; the arguments are those of `TrainLoader`."""
        self._split, self._device = split, device
        self._work = _Evaluation(split, config, batch_size, np.arange(world.rank, len(split), world.world_size))
        self._feed = Feed(
            split, config, batch_size=batch_size, device=device, channels_last=channels_last, quarantine=quarantine
        )

    def __len__(self) -> int:
        """Return the number of batches of this rank; 0 where there are fewer samples than ranks."""
        return len(self._work)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches; a second call ends the iterator of the first.

        Raises:
            DataError: Where a shard or an image in it is damaged; it names the sample.
        """
        return _with_labels(self._feed.batches(self._work), self._work, self._split, self._device)

    def close(self) -> None:
        """Drop what is in work and give up threads, memory and files."""
        self._feed.close()


class _Block(NamedTuple):
    """Consecutive batches of a rank, for which what is cheaper together is made together."""

    number: int
    positions: NDArray[np.int64]
    """[batches, B]"""
    samples: NDArray[np.int64]
    augmentation: Augmentation


@dataclass
class _Training:
    split: Split
    config: DataConfig
    plan: Plan
    batching: Batching
    seed: int
    epoch: int
    first_step: int
    steps: int
    _block: _Block | None = None

    def __len__(self) -> int:
        return max(0, self.steps) * self.batching.accumulation

    def positions(self, batch: int) -> NDArray[np.int64]:
        step, accumulated = divmod(batch, self.batching.accumulation)
        return self.batching.positions(self.first_step + step, accumulated)

    def samples(self, batch: int) -> NDArray[np.int64]:
        return self.plan.samples(self.positions(batch))

    def augmentation(self, batch: int, samples: NDArray[np.int64]) -> Augmentation:
        size = self.batching.micro_batch_size
        batches = max(1, IMAGES_OF_A_BLOCK // size)
        number, place = divmod(batch, batches)
        if self._block is None or self._block.number != number:
            self._block = self._block_of(number, batches)
        if np.array_equal(samples, self._block.samples[place]):
            return self._block.augmentation.part(place * size, (place + 1) * size)
        return self._augmentation(self._block.positions[place], samples)  # others, in the place of bad ones

    def _block_of(self, number: int, batches: int) -> _Block:
        """Make block `number`, of so many batches; the last one may have fewer."""
        positions = np.stack(
            [self.positions(batch) for batch in range(number * batches, min((number + 1) * batches, len(self)))]
        )
        samples = self.plan.samples(positions)
        return _Block(number, positions, samples, self._augmentation(positions.reshape(-1), samples.reshape(-1)))

    def _augmentation(self, positions: NDArray[np.int64], samples: NDArray[np.int64]) -> Augmentation:
        side = self.config.training_size(self.epoch)
        drawn = training_augmentation(
            self.config.augmentation,
            seed=self.seed,
            epoch=self.epoch,
            positions=positions,
            width=self.split.width[samples],
            height=self.split.height[samples],
            image_size=side,
        )
        return replace(drawn, size=np.full((len(drawn), 2), side, np.float32)) if self.config.progressive else drawn

    def replacements(self, batch: int, place: int, sample: int) -> Iterator[int]:
        position = int(self.positions(batch)[place])
        return replacements(self.split, sample, seed=self.seed, epoch=self.epoch, position=position)


@dataclass(frozen=True)
class _Evaluation:
    split: Split
    config: DataConfig
    batch_size: int
    own: NDArray[np.int64]

    def __len__(self) -> int:
        return -(-len(self.own) // self.batch_size)

    def samples(self, batch: int) -> NDArray[np.int64]:
        return self.own[batch * self.batch_size : (batch + 1) * self.batch_size]

    def positions(self, batch: int) -> NDArray[np.int64]:
        return self.samples(batch)

    def augmentation(self, batch: int, samples: NDArray[np.int64]) -> Augmentation:
        width, height = self.split.width[samples], self.split.height[samples]
        return evaluation_augmentation(
            width,
            height,
            resize=self.config.resize,
            image_size=self.config.image_size,
            interpolation=self.config.interpolation,
        )

    def replacements(self, batch: int, place: int, sample: int) -> Iterator[int]:
        return replacements(self.split, sample, seed=0, epoch=0, position=sample)


def _with_labels(
    batches: Batches, work: _Training | _Evaluation, split: Split, device: torch.device
) -> Iterator[Batch]:
    for batch, (images, samples) in enumerate(batches):
        labels = torch.from_numpy(split.label[samples].astype(np.int64))
        yield Batch(images, labels.to(device, non_blocking=True), torch.from_numpy(samples), work.positions(batch))
