"""LAMB: Adam whose step in each tensor is in proportion to the norm of its weights (You et al., 2020, algorithm 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ltrsys.section import Fraction, Positive
from ltrsys.training.optimizers.base import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.register
class LAMB(Optimizer):
    """Adam with a step for each tensor in proportion to its norm, for large batches."""

    name = "lamb"
    summary = "Adam whose steps are in proportion to the norm of each tensor, for large batches"
    source = "You et al., 2020, algorithm 2"
    order = 20
    state_copies = 2
    whole_parameters = True

    lr: Positive = 5e-3
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Positive = 1e-6
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    """Where it is 0, as for norms and biases without `decay_norms_and_biases`, the step is plain Adam's."""

    def build(self, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
        """Return timm's LAMB, without clipping of its own: `train.clip_grad_norm` is for every optimizer."""
        from timm.optim import Lamb

        optimizer: torch.optim.Optimizer = Lamb(
            groups,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            max_grad_norm=None,
        )
        return optimizer
