"""Weight balancing: class weights kept to about one length while they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field

from ltrsys.classifiers.base import CLASSIFIERS, FitContext, tried
from ltrsys.classifiers.joint import LinearClassifier
from ltrsys.features.config import RetrainConfig
from ltrsys.section import Count, Positive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ltrsys.classifiers.base import SelectedOn


class WeightBalancingConfig(RetrainConfig):
    """Weight balancing."""

    epochs: Count = 10
    weight_decay: Annotated[float, Field(ge=0)] = 5e-3
    max_norm: Positive = 1.0
    """The longest that the weight vector of a class may be."""


@CLASSIFIERS.register
@dataclass(frozen=True)
class WeightBalancing(LinearClassifier[WeightBalancingConfig]):
    """cRT with more weight decay, each class weight brought back into a ball after every step (MaxNorm)."""

    name = "weight_balancing"
    summary = "cRT with weight decay and a largest norm of each class weight, both chosen on val"
    source = "Alshammari et al., 2022, section 4"
    order = 24
    label, color, marker = "Weight balancing", "#999933", ">"
    calibration_folds = 1
    Config = WeightBalancingConfig
    grid = tried(weight_decay=(5e-3, 5e-4), max_norm=(1.0, 0.5, 2.0))
    always_selects = True
    depends_on_seed = True

    max_norm: float

    @classmethod
    def fit(cls, context: FitContext, config: WeightBalancingConfig) -> Self:
        """Train as cRT; after each step, divide the weights that are too long by what they are too long by.

        Raises:
            DataError: Where the training diverges.
        """
        import torch

        from ltrsys.classifiers.retrained.fresh_linear import train_fresh_linear

        def into_ball(weight_CD: Tensor) -> None:
            torch.renorm(weight_CD, 2, 0, config.max_norm, out=weight_CD)

        trained = train_fresh_linear(context, config, section=cls.name, description=cls.label, after_step=into_ball)
        return cls(*trained, config.max_norm)

    def params(self) -> dict[str, Any]:
        """Return the largest norm, and whether it has a bias."""
        return {"max_norm": self.max_norm, "bias": self.bias_C is not None}

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say the largest norm."""
        return f"norms up to {params['max_norm']:.4g}"

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from W and b."""
        return cls(tensors["weight"], tensors.get("bias"), float(params["max_norm"]))
