"""What a first config for somebody's own shards says, and why: numbers that follow from the images."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltrsys.metrics.config import ShotsConfig

PAPER_LR, PAPER_BATCH = 0.2, 512
"""Learning rate and batch of the configs for ImageNet-LT and iNaturalist 2018; Places-LT has half of both."""
PAPER_EPOCHS, MOST_EPOCHS = 90, 200
"""What the paper trains, and what it trains at most."""
IMAGES_ON_A_GPU = 64
"""What a GPU, and BatchNorm on it, sees at once of the paper's batch on eight."""
FEWEST_STEPS = 20
"""Steps that an epoch should have: a small set gets a smaller batch."""
PAPER_RESIZE, PAPER_SIZE = 256, 224
SMALL = 64
"""Up to this side, a network that reduces an image 32-fold leaves nothing of it: the small stem does not, and crops
should be large."""
USUAL_LANES = 192
FLOPS_OF_A_GPU, FLOPS_OF_A_CORE = 30e12, 20e9
"""What training is assumed to reach, in operations a second: bf16 convolutions on a GPU of 2020 or later, which is some
1,200 images a second for ResNet-50 at 224 pixels; float32 on a core."""


@dataclass(frozen=True)
class Sizes:
    """The sides of images, in pixels."""

    image_size: int
    resize: int
    median: int
    """Half of the short sides are at least this."""


def choose_sizes(short_sides: NDArray[np.uint16]) -> Sizes:
    """Return the paper's 224 of 256 where the images have them, else what half of the images have.

    Args:
        short_sides: Of the training images, [N].
    """
    median = int(np.percentile(short_sides, 50, method="lower"))
    if median >= PAPER_SIZE:
        return Sizes(PAPER_SIZE, min(PAPER_RESIZE, median), median)
    if median <= SMALL:
        return Sizes(median, median, median)
    return Sizes(median // 32 * 32, median, median)


@dataclass(frozen=True)
class Batch:
    """How many images make a step."""

    of_a_rank: int
    ranks: int

    @property
    def size(self) -> int:
        """Images of a step, over all ranks."""
        return self.of_a_rank * self.ranks

    @property
    def lr(self) -> float:
        """The paper's learning rate by the linear rule."""
        return linear_lr(self.size)


def choose_batch(images: int, ranks: int) -> Batch:
    """Return the paper's 64 images a rank and 512 at most, halved while an epoch would have fewer than 20 steps.

    Args:
        images: Training images; at least `ranks`.
        ranks: Processes that train.
    """
    of_a_rank = IMAGES_ON_A_GPU
    while of_a_rank > 8 and (of_a_rank * ranks > PAPER_BATCH or images < FEWEST_STEPS * of_a_rank * ranks):
        of_a_rank //= 2
    return Batch(min(of_a_rank, images // ranks), ranks)


def choose_retraining_batch(images: int) -> int:
    """Return the batch of the second stage's training on features: 512, or less where an epoch would be too short."""
    return max(8, min(PAPER_BATCH, 2 ** int(math.log2(max(1, images // FEWEST_STEPS)))))


def linear_lr(batch: int) -> float:
    """Return the paper's learning rate for a batch of this size: 0.2 for 512, in proportion."""
    return PAPER_LR * batch / PAPER_BATCH


def choose_lanes(ranks: int) -> int:
    """Return the usual number of lanes, or the nearest below that the ranks can share."""
    return max(1, USUAL_LANES // ranks) * ranks


def choose_shots(train_counts: NDArray[np.int64]) -> ShotsConfig | None:
    """Return thresholds that leave none of many, medium and few empty: the paper's where they do, else thirds.

    None where the classes have fewer than three different numbers of images, so that no thresholds do.

    Args:
        train_counts: Training images of each class, [C].
    """
    usual = ShotsConfig()
    if all(count > 0 for count in group_sizes(train_counts, usual)):
        return usual
    different = np.unique(train_counts)
    if len(different) < 3:
        return None
    # Any of the values between the least and the most is a threshold that leaves a class on both of its sides.
    between = different[1:-1]
    few, many = (between[np.abs(between - np.quantile(train_counts, part)).argmin()] for part in (1 / 3, 2 / 3))
    return ShotsConfig(many=int(many), few=int(few))


def group_sizes(train_counts: NDArray[np.int64], shots: ShotsConfig) -> tuple[int, int, int]:
    """Return how many classes are many-, medium- and few-shot."""
    many, few = int((train_counts > shots.many).sum()), int((train_counts < shots.few).sum())
    return many, len(train_counts) - many - few, few


def assumed_images_per_second(flops_of_an_image: float, gpus: int, cores: int) -> float:
    """Return how fast training is assumed to be, with nothing measured: on GPUs, or else on cores.

    Args:
        flops_of_an_image: Operations of one forward pass; the backward pass takes twice as many.
        gpus: How many; 0 for none.
        cores: Of the CPU.
    """
    speed = gpus * FLOPS_OF_A_GPU if gpus else cores * FLOPS_OF_A_CORE
    return speed / (3 * flops_of_an_image)


def epochs_in(hours: float, images: int, images_per_second: float) -> int:
    """Return how many epochs fit into the time: at least one, and at most the paper's 200."""
    return max(1, min(MOST_EPOCHS, int(hours * 3600 * images_per_second / images)))
