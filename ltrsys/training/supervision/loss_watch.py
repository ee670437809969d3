"""Watches the losses for NaN and infinity, a step behind, so that no GPU waits for it."""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from ltrsys.errors import LtrsysError
from ltrsys.training.supervision.host_copy import HostCopy


@dataclass(frozen=True)
class _Step:
    step: int
    samples: list[Tensor]
    """Sample ids of each micro-batch, on the CPU."""
    losses: HostCopy


class LossNotFinite(LtrsysError):
    """A loss was NaN or infinite."""


class LossWatch:
    """Names the step, the rank and the samples of a loss that is not finite."""

    def __init__(self, rank: int, lr: float) -> None:
        """Watch nothing yet.

        Args:
            rank: Of this process, for the message.
            lr: The configured learning rate, for the advice.
        """
        self._rank, self._lr = rank, lr
        self._unchecked: deque[_Step] = deque()

    def add(self, step: int, samples: list[Tensor], losses: list[Tensor]) -> None:
        """Take note of a step's micro-batches, and check the steps before.

        Raises:
            LossNotFinite: For the first loss of an earlier step that is not finite.
        """
        self.check()
        self._unchecked.append(_Step(step, samples, HostCopy(torch.stack(losses))))

    def check(self) -> None:
        """Check every step so far.

        Raises:
            LossNotFinite: For the first loss that is not finite.
        """
        while self._unchecked:
            one = self._unchecked.popleft()
            for samples, loss in zip(one.samples, one.losses.read(), strict=True):
                if not math.isfinite(loss):
                    raise self._error(one.step, samples.tolist(), loss)

    def _error(self, step: int, samples: list[int], loss: float) -> LossNotFinite:
        shown = ", ".join(map(str, samples[:8])) + (", ..." if len(samples) > 8 else "")
        return LossNotFinite(
            f"step {step}: the loss is {loss} on rank {self._rank}, whose micro-batch held the training samples "
            f"{shown}. Lower train.optimizer.lr (it is {self._lr}), add train.schedule.warmup_epochs, or train in "
            "bf16; the last checkpoint stays."
        )
