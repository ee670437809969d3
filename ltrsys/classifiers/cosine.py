"""A cosine classifier (paper, appendix B.7 and Table 12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn
from ltrsys.features.config import RetrainConfig
from ltrsys.section import Count, Positive

if TYPE_CHECKING:
    from torch import Tensor


class CosineConfig(RetrainConfig):
    """A cosine classifier."""

    epochs: Count = 10
    scale: Positive = 10.0
    """What the learned scale of the cosines begins with."""


@CLASSIFIERS.register
@dataclass(frozen=True)
class CosineClassifier(Classifier[CosineConfig]):
    """Logits s cos(w, z): lengths of features and weights play no part; the scale s is learned."""

    name = "cosine"
    summary = "a fresh cosine classifier, trained with class-balanced sampling"
    source = "Kang et al., 2020, appendix B.7; Gidaris and Komodakis, 2018, section 3.2"
    order = 60
    label, color, marker = "Cosine", "#56B4E9", "h"
    Config = CosineConfig
    depends_on_seed = True
    has_weight_norms = False

    weight_CD: Tensor
    """Class directions, of length 1 once it is fitted."""
    scale: Tensor
    """s, []."""

    @classmethod
    def fit(cls, context: FitContext, config: CosineConfig) -> Self:
        """Start from torch's random weights of a linear layer; train them and the scale.

        Raises:
            DataError: Where the training diverges.
        """
        import torch
        from torch.nn import functional

        from ltrsys.features.balanced_sgd import minimise, refuse_divergence

        train = context.train
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            weight_CD = torch.nn.Linear(train.num_features, train.num_classes, bias=False).weight.detach()
        learned = cls(
            weight_CD.to(context.device).requires_grad_(),
            torch.full((), config.scale, device=context.device, requires_grad=True),
        )
        parameters = [learned.weight_CD, learned.scale]
        minimise(
            learned.scores, parameters, train, config, seed=context.seed, device=context.device, description=cls.label
        )
        refuse_divergence(cls.name, *parameters)
        return cls(functional.normalize(learned.weight_CD.detach(), dim=1), learned.scale.detach())

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the logits, [N, C]."""
        from torch.nn import functional

        directions_ND = functional.normalize(features_ND, dim=1)
        return self.scale * functional.linear(directions_ND, functional.normalize(self.weight_CD, dim=1))

    def params(self) -> dict[str, Any]:
        """Return the scale."""
        return {"scale": float(self.scale)}

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say the scale."""
        return f"scale {params['scale']:.3g}, learned"

    def tensors(self) -> dict[str, Tensor]:
        """Return directions and scale."""
        return {"weight": self.weight_CD, "scale": self.scale}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from directions and scale."""
        return cls(tensors["weight"], tensors["scale"])
