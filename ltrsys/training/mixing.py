"""Which way the images of a micro-batch are mixed: mixup, CutMix, one of both at random, or not at all."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.data.loading.loader import Batch
from ltrsys.random import Stream, uniforms_at
from ltrsys.training.config import TrainConfig
from ltrsys.training.cutmix import cut_in
from ltrsys.training.mixup import mix
from ltrsys.training.objective import Mixed

_CHOICES = 3
"""Second part of the address of the random words; CutMix's own come before."""


def mixed(batch: Batch, config: TrainConfig, *, seed: int, epoch: int) -> tuple[Tensor, Mixed | None]:
    """Mix the images of a micro-batch on their device, as the section `train` says.

    Returns:
        Images [B, 3, H, W], and what was mixed into them, None for nothing.
    """
    if config.cutmix.alpha and (not config.mixup.alpha or cuts(batch.positions, seed=seed, epoch=epoch)):
        return cut_in(batch, alpha=config.cutmix.alpha, seed=seed, epoch=epoch)
    return mix(batch, alpha=config.mixup.alpha, seed=seed, epoch=epoch)


def cuts(positions: NDArray[np.int64], *, seed: int, epoch: int) -> bool:
    """Say whether CutMix has a micro-batch that mixup could have too, which is as likely as not."""
    first = np.array([positions.min()])
    return bool(uniforms_at(first, seed=seed, stream=Stream.CUTMIX, major=epoch, minor=_CHOICES)[0, 0] < 0.5)
