"""What a step minimises: the loss of the config, its weights by class, what belongs to the batch, and mixed labels.

B samples, C classes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ltrsys.training.losses.base import Loss, LossContext, Outputs


class Mixed(NamedTuple):
    """The images of a micro-batch that others were mixed into (`ltrsys.training.mixup`)."""

    labels_B: Tensor
    """Class ids of the others, int64."""
    share_B: Tensor
    """How much of each image is its own, float32."""


class Objective:
    """Outputs of the network to the number that is minimised.

    It is the mean over the samples of w_y·l(y), and where images are mixed, of share·w_y·l(y) + (1-share)·w_o·l(o) with
    the other label o; to it comes what the loss adds for the batch.
    """

    def __init__(self, loss: Loss, context: LossContext, seed: int = 0) -> None:
        """Build the loss, the same on every rank.

        Args:
            loss: The section `train.loss`.
            context: What it may depend on.
            seed: Of the parameters that it may have. torch's generator is left as it was.

        Raises:
            UsageError: Where the loss needs what is not installed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._loss = loss.build(context)
        self._mean, self._batch_term = loss.build_mean(self._loss), loss.build_batch_term(context)
        weights = loss.class_weights(context.class_counts)
        self._weight_C = None if weights is None else context.tensor(weights)
        self._from_epoch = loss.from_epoch
        self.lr = loss.parameter_lr
        """Of the loss's parameters; None for the classifier's."""
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Weigh the classes from now on, if this epoch, counted from 0, is one in which they are weighed."""
        self._weighs = self._weight_C is not None and epoch >= self._from_epoch

    def __call__(self, outputs: Outputs, mixed: Mixed | None = None) -> Tensor:
        """Return the value, []; it does not wait for a GPU, unless the loss does."""
        if mixed is not None:
            own_B = self._by_sample(outputs)
            other_B = self._by_sample(replace(outputs, labels_B=mixed.labels_B))
            value = torch.lerp(other_B, own_B, mixed.share_B).mean()
        elif self._weighs:
            value = self._by_sample(outputs).mean()
        else:
            value = self._mean(outputs)
        return value if self._batch_term is None else value + self._batch_term(outputs)

    def _by_sample(self, outputs: Outputs) -> Tensor:
        loss_B = self._loss(outputs)
        if self._weighs and self._weight_C is not None:
            return self._weight_C[outputs.labels_B] * loss_B
        return loss_B

    @property
    def module(self) -> nn.Module | None:
        """The loss, where it has parameters to learn."""
        return self._loss if isinstance(self._loss, nn.Module) else None

    def state(self) -> dict[str, Tensor]:
        """Return what the loss has learned, by name; empty for a loss that learns nothing."""
        return {} if self.module is None else dict(self.module.state_dict())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        if self.module is not None:
            self.module.load_state_dict(dict(state))
