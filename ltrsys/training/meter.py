"""What a run measures between two lines of its log."""

import time

import torch
import torch.distributed as dist
from torch import Tensor

from ltrsys.runs.metric_names import IMAGES_PER_SECOND, LOSS, STALL_SHARE
from ltrsys.world import World


class Meter:
    """Mean loss, speed and data-stall share over the steps since the last reading."""

    def __init__(self, world: World, device: torch.device) -> None:
        self._world, self._device = world, device
        self._last_stall = 0.0
        self._reset()

    def add(self, loss: Tensor, num_images: int) -> None:
        """Count one step: the mean loss of this rank's part, and the images of all ranks."""
        self._loss += loss
        self._images += num_images
        self._steps += 1

    def skip(self, seconds: float) -> None:
        """Leave `seconds`, which went into something other than training, out of the speed."""
        self._started += seconds

    def read(self, stall_seconds: float) -> dict[str, float]:
        """Return the means over steps and ranks, and start again. Called by all ranks together.

        Args:
            stall_seconds: What the loader says that it has kept this rank waiting so far.
        """
        elapsed = time.perf_counter() - self._started
        share = (stall_seconds - self._last_stall) / elapsed
        means = torch.stack((self._loss / self._steps, torch.zeros_like(self._loss).fill_(share)))
        dist.all_reduce(means)
        loss, share = (means / self._world.world_size).tolist()
        images_per_second = self._images / elapsed
        self._last_stall = stall_seconds
        self._reset()
        return {LOSS.key: loss, IMAGES_PER_SECOND.key: images_per_second, STALL_SHARE.key: share}

    @property
    def unlogged(self) -> tuple[Tensor, int]:
        """The sum of this rank's losses since the last reading, and of how many steps."""
        return self._loss, self._steps

    def restore(self, loss: Tensor, steps: int) -> None:
        """Take over what `unlogged` was, so that the next reading is that of a run which was never stopped."""
        self._loss, self._steps = loss.to(self._device), steps

    def _reset(self) -> None:
        self._loss = torch.zeros((), device=self._device)
        self._images = self._steps = 0
        self._started = time.perf_counter()
