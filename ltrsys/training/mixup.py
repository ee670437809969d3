"""mixup: every image becomes a mean of itself and another of its micro-batch (Zhang et al., 2018, equation 1).

Pairs and weights are counter-based random numbers, addressed by the position of the sample within the epoch: any number
of ranks, and a run that is resumed, mix the same micro-batches alike.

B samples.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.data.loading.loader import Batch
from ltrsys.random import Stream, uniforms_at, words_at
from ltrsys.training.objective import Mixed


def mix(batch: Batch, *, alpha: float, seed: int, epoch: int) -> tuple[Tensor, Mixed | None]:
    """Mix the images of a micro-batch on their device, without waiting for it.

    Args:
        batch: What the loader made.
        alpha: Of the Beta(alpha, alpha) distribution that each image's share is drawn from; 0 mixes nothing.
        seed: Of the run.
        epoch: Counted from 0.

    Returns:
        Images [B, 3, H, W] in the memory format of the batch's, and what was mixed into them, None for nothing.
    """
    if not alpha:
        return batch.images, None
    partners, shares = draw(batch.positions, alpha=alpha, seed=seed, epoch=epoch)
    device = batch.labels.device
    partners_B = torch.from_numpy(partners).to(device, non_blocking=True)
    share_B = torch.from_numpy(shares).to(device, non_blocking=True)
    share_B111 = share_B[:, None, None, None].to(batch.images.dtype)
    images = torch.lerp(batch.images, batch.images[partners_B], 1 - share_B111)
    return images, Mixed(batch.labels[partners_B], share_B)


def draw(
    positions: NDArray[np.int64], *, alpha: float, seed: int, epoch: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Draw what the samples of a micro-batch are mixed with.

    Args:
        positions: Their global positions within the epoch, [B].
        alpha: Of the Beta distribution, above 0.
        seed: Of the run.
        epoch: Counted from 0.

    Returns:
        Their partners, a uniformly random permutation of 0..B-1, int64 [B]; their own shares, float32 [B].
    """
    keys = words_at(positions, seed=seed, stream=Stream.MIXUP_PARTNERS, major=epoch)[:, 0]
    drawn = uniforms_at(positions, seed=seed, stream=Stream.MIXUP_SHARES, major=epoch)[:, 0]
    return np.argsort(keys, kind="stable"), beta(drawn, alpha).astype(np.float32)


def beta(uniform: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Return what is distributed as Beta(alpha, alpha), of numbers that are uniform on [0, 1)."""
    from scipy.special import betaincinv

    drawn: NDArray[np.float64] = betaincinv(alpha, alpha, uniform)
    return drawn
