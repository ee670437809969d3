"""CutMix: a rectangle of every image comes from another of its micro-batch (Yun et al., 2019, equations 1 and 2).

Decided as mixup is (`ltrsys.training.mixup`), by the position of the sample within the epoch. Each image has a
rectangle of its own, where Yun et al. draw one for the micro-batch.

B samples, H x W pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.data.loading.loader import Batch
from ltrsys.random import Stream, uniforms_at, words_at
from ltrsys.training.mixup import beta
from ltrsys.training.objective import Mixed

_PARTNERS, _AREAS, _CENTRES = range(3)
"""Second parts of the addresses of the random words."""


def cut_in(batch: Batch, *, alpha: float, seed: int, epoch: int) -> tuple[Tensor, Mixed]:
    """Put rectangles into the images of a micro-batch on their device, without waiting for it.

    Args:
        batch: What the loader made.
        alpha: Of the Beta(alpha, alpha) distribution that the share of each image that stays is drawn from, above 0.
        seed: Of the run.
        epoch: Counted from 0.

    Returns:
        Images [B, 3, H, W] in the memory format of the batch's, and what was cut into them.
    """
    height, width = batch.images.shape[2:]
    partners, boxes = draw(batch.positions, alpha=alpha, seed=seed, epoch=epoch, height=height, width=width)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    device = batch.labels.device
    partners_B, boxes_B4, share_B = (
        torch.from_numpy(array).to(device, non_blocking=True)
        for array in (partners, boxes, (1 - area / (height * width)).astype(np.float32))
    )
    top, left, bottom, right = boxes_B4[:, :, None, None, None].unbind(dim=1)
    row_H1 = torch.arange(height, device=device)[:, None]
    column_W = torch.arange(width, device=device)
    inside_B1HW = (row_H1 >= top) & (row_H1 < bottom) & (column_W >= left) & (column_W < right)
    images = torch.where(inside_B1HW, batch.images[partners_B], batch.images)
    return images, Mixed(batch.labels[partners_B], share_B)


def draw(
    positions: NDArray[np.int64], *, alpha: float, seed: int, epoch: int, height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw what is cut into the samples of a micro-batch.

    Args:
        positions: Their global positions within the epoch, [B].
        alpha: Of the Beta distribution, above 0.
        seed: Of the run.
        epoch: Counted from 0.
        height: H.
        width: W.

    Returns:
        Their partners, a uniformly random permutation of 0..B-1, int64 [B]; top, left, bottom and right of the
        rectangles, int64 [B, 4], cut off at the border of the image.
    """
    keys = words_at(positions, seed=seed, stream=Stream.CUTMIX, major=epoch, minor=_PARTNERS)[:, 0]
    drawn = uniforms_at(positions, seed=seed, stream=Stream.CUTMIX, major=epoch, minor=_AREAS)[:, 0]
    places = uniforms_at(positions, 2, seed=seed, stream=Stream.CUTMIX, major=epoch, minor=_CENTRES)
    size = np.array([height, width])
    half = (0.5 * np.sqrt(1 - beta(drawn, alpha))[:, None] * size).astype(np.int64)
    centre = (places * size).astype(np.int64)
    corners = [np.maximum(centre - half, 0), np.minimum(centre + half, size)]
    return np.argsort(keys, kind="stable"), np.concatenate(corners, axis=1)
