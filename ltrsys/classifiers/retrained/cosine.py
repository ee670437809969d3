"""A cosine classifier (paper, appendix B.7 and Table 12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn, tried
from ltrsys.features.config import RetrainConfig
from ltrsys.section import Count, Positive

if TYPE_CHECKING:
    from numpy.typing import NDArray
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
    calibration_folds = 1
    trained_as_softmax = True
    Config = CosineConfig
    grid = tried(lr=(0.2, 0.05), scale=(10.0, 20.0))
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
        return cls.fit_on(context, config, np.ones(context.train.num_classes, dtype=np.bool_), section=cls.name)

    @classmethod
    def fit_on(cls, context: FitContext, config: CosineConfig, chosen_C: NDArray[np.bool_], *, section: str) -> Self:
        """Fit it on the images of some classes, as if there were no others.

        Args:
            context: What it is fitted on.
            config: How.
            chosen_C: Those classes, bool [C]; the directions of the others are without meaning.
            section: The part of `balance` that `config` is, for messages.

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
        left_out_C = torch.from_numpy(~chosen_C).to(context.device)
        minimise(
            lambda features_BD: learned.scores(features_BD).masked_fill(left_out_C, -torch.inf),
            parameters,
            train,
            config,
            seed=context.seed,
            device=context.device,
            description=cls.label,
            rows=np.flatnonzero(chosen_C[train.labels]),
        )
        refuse_divergence(section, *parameters)
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
