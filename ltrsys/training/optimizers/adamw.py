"""Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ltrsys.section import Fraction, Positive
from ltrsys.training.optimizers.base import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.register
class AdamW(Optimizer):
    """Adam with decoupled weight decay."""

    name = "adamw"
    summary = "Adam with decoupled weight decay"
    source = "Loshchilov and Hutter, 2019"
    order = 10
    state_copies = 2

    lr: Positive = 1e-3
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.05

    def build(self, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
        """Return torch's AdamW, fused."""
        import torch

        return torch.optim.AdamW(
            groups,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
