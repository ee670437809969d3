"""Muon: momentum, made orthogonal, for matrices; AdamW for the rest (Jordan et al., 2024; Liu et al., 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ltrsys.section import Fraction, Positive
from ltrsys.training.optimizers.base import OPTIMIZERS, Optimizer
from ltrsys.training.optimizers.groups import HEAD

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.register
class Muon(Optimizer):
    """Momentum, made orthogonal, for the backbone's matrices; AdamW for the rest."""

    name = "muon"
    summary = "orthogonal momentum for matrices, AdamW for the rest"
    source = "Jordan et al., 2024; Liu et al., 2025, section 2.2"
    order = 30
    state_copies = 2
    head_apart = True
    whole_parameters = True

    lr: Positive = 1e-3
    """One rate for both: updates of matrices are scaled to the size of AdamW's (Liu et al., 2025, equation 4)."""
    momentum: Fraction = 0.95
    nesterov: bool = True
    """Nesterov's momentum; also in AdamW, which is NAdamW then."""
    beta1: Fraction = 0.9
    """Of AdamW, as beta2."""
    beta2: Fraction = 0.95
    weight_decay: Annotated[float, Field(ge=0)] = 0.05

    def build(self, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
        """Return timm's Muon, which takes convolutions as matrices of [out, in·height·width].

        AdamW updates the classifier, what the loss learns, biases, norms, positions, and matrices that are nearly
        vectors: depthwise convolutions, fewer than 4 rows or columns, or 128 times as many of one as of the other.
        """
        from timm.optim import Muon as MuonOfTimm

        optimizer: torch.optim.Optimizer = MuonOfTimm(
            [group | {"use_fallback": group[HEAD]} for group in groups],
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            betas=(self.beta1, self.beta2),
            ns_coefficients="original",  # those that were published, and torch's
            weight_decay=self.weight_decay,
        )
        return optimizer
