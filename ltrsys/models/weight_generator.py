"""The weight of a class from a few of its features: the few-shot weight generator of Gidaris and Komodakis (2018).

V classes, S support features of each, D features, B base classes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

from ltrsys.random import Stream, words

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ATTENTION_SCALE = 10.0
"""What the learned scale of the attention begins with, as in the authors' code for mini-ImageNet."""


@dataclass(frozen=True)
class WeightGenerator:
    """w' = φ_avg ⊙ mean_i z_i + φ_att ⊙ mean_i Σ_b a_ib w_b, with z_i and w_b of length 1.

    The attention a_i is a softmax over the base classes b of γ cos(Φ_q z_i, k_b). φ_avg, φ_att, Φ_q, the keys k_b and
    the scale γ are learned.
    """

    average_D: Tensor
    """φ_avg, float32 [D]."""
    attention_D: Tensor
    """φ_att, float32 [D]."""
    query_DD: Tensor
    """Φ_q, float32 [D, D]."""
    keys_BD: Tensor
    """k_b, float32 [B, D]; their lengths play no part."""
    scale: Tensor
    """γ, float32 []."""

    @classmethod
    def start(cls, num_base: int, num_features: int, *, seed: int, device: torch.device) -> Self:
        """Return the one that training begins with, as in the authors' code; all of it has gradients.

        φ_avg and φ_att are 1, Φ_q is the identity and noise of 0.001, the keys are normal of variance 2/D.
        """
        import torch

        word = int(words(1, seed=seed, stream=Stream.WEIGHT_GENERATOR)[0])
        random = torch.Generator().manual_seed(word)
        start = cls(
            torch.ones(num_features),
            torch.ones(num_features),
            torch.eye(num_features) + 0.001 * torch.randn(num_features, num_features, generator=random),
            (2 / num_features) ** 0.5 * torch.randn(num_base, num_features, generator=random),
            torch.tensor(ATTENTION_SCALE),
        )
        return cls(*(tensor.to(device).requires_grad_() for tensor in start.parameters()))

    def parameters(self) -> list[Tensor]:
        """Return all that is learned."""
        return [getattr(self, field.name) for field in fields(self)]

    def weights(self, support_VSD: Tensor, base_BD: Tensor, hidden_B: Tensor | None = None) -> Tensor:
        """Return the weights of V classes, [V, D], of any length.

        Args:
            support_VSD: Features of their images, [V, S, D], of any length.
            base_BD: Weights of the base classes, [B, D], of any length.
            hidden_B: Base classes that have no part in it, bool [B]: not all. None is hidden if not given.
        """
        import torch
        from torch.nn import functional

        support_VSD = functional.normalize(support_VSD, dim=2)
        queries_VSD = functional.normalize(support_VSD @ self.query_DD.T, dim=2)
        logits_VSB = self.scale * queries_VSD @ functional.normalize(self.keys_BD, dim=1).T
        if hidden_B is not None:
            logits_VSB = logits_VSB.masked_fill(hidden_B, -torch.inf)
        attended_VSD = logits_VSB.softmax(dim=2) @ functional.normalize(base_BD, dim=1)
        return self.average_D * support_VSD.mean(dim=1) + self.attention_D * attended_VSD.mean(dim=1)
