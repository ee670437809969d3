"""Learnable weight scaling (paper, equation 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn, tried
from ltrsys.features.config import RetrainConfig
from ltrsys.section import Count

if TYPE_CHECKING:
    from torch import Tensor


class LWSConfig(RetrainConfig):
    """Learnable weight scaling."""

    epochs: Count = 5


@CLASSIFIERS.register
@dataclass(frozen=True)
class LearnableWeightScaling(Classifier[LWSConfig]):
    """Logits s (W z + b): the joint classifier with one learned scale a class.

    As in the paper's code the scale multiplies the bias too; without `scale_bias` they are s (W z) + b.
    """

    name = "lws"
    summary = "the joint classifier with one learned scale a class"
    source = "Kang et al., 2020, equation 4"
    order = 40
    label, color, marker = "LWS", "#8C4A00", "v"
    calibration_folds = 1
    trained_as_softmax = True
    Config = LWSConfig
    uses_joint = True
    grid = tried(lr=(0.2, 0.05))
    depends_on_seed = True
    needs_linear_head = "it learns other norms of the joint weights, on which a cosine does not depend"

    weight_CD: Tensor
    bias_C: Tensor
    scale_C: Tensor
    scale_bias: bool

    @classmethod
    def fit(cls, context: FitContext, config: LWSConfig) -> Self:
        """Learn the scales, from 1, with class-balanced sampling; everything else stays as it is.

        Weight decay draws the scales to 0, as in the paper's code.

        Raises:
            DataError: Where the training diverges.
        """
        import torch

        from ltrsys.features.balanced_sgd import minimise, refuse_divergence
        from ltrsys.kernels import row_norms

        joint, train = context.joint(), context.train
        assert joint.bias_C is not None
        scale_C = torch.ones(train.num_classes, device=context.device, requires_grad=True)
        scaled, norms_C = cls(joint.weight_CD, joint.bias_C, scale_C, config.bias), row_norms(joint.weight_CD)
        minimise(
            lambda features_BD: scaled._logits(features_BD, norms_C),
            [scale_C],
            train,
            config,
            seed=context.seed,
            device=context.device,
            description=cls.label,
        )
        refuse_divergence(cls.name, scale_C)
        return cls(joint.weight_CD, joint.bias_C, scale_C.detach(), config.bias)

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the logits, [N, C]."""
        return self._logits(features_ND, None)

    def as_linear(self) -> tuple[Tensor, Tensor]:
        """Return the scaled weights and bias."""
        return self.scale_C[:, None] * self.weight_CD, self._scaled_bias()

    def params(self) -> dict[str, Any]:
        """Return whether the bias is scaled, and the range of the scales."""
        return {
            "scale_bias": self.scale_bias,
            "scale_min": float(self.scale_C.min()),
            "scale_max": float(self.scale_C.max()),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return W, b and s."""
        return {"weight": self.weight_CD, "bias": self.bias_C, "scale": self.scale_C}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from W, b and s."""
        return cls(tensors["weight"], tensors["bias"], tensors["scale"], bool(params["scale_bias"]))

    def _logits(self, features_ND: Tensor, norms_C: Tensor | None) -> Tensor:
        from ltrsys.kernels import tau_logits

        logits_NC = tau_logits(features_ND, self.weight_CD, tau=0.0, scale=self.scale_C, norms=norms_C)
        return logits_NC + self._scaled_bias()

    def _scaled_bias(self) -> Tensor:
        return self.scale_C * self.bias_C if self.scale_bias else self.bias_C
