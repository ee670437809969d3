"""Learnable weight scaling (paper, equation 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ltrsys.classifiers.base import Classifier, ClassifierName, SelectedOn
from ltrsys.classifiers.config import RetrainConfig
from ltrsys.classifiers.joint import Joint
from ltrsys.features.balanced_sgd import minimise, refuse_divergence
from ltrsys.features.bank import BankSplit
from ltrsys.kernels import tau_logits, top_classes


@dataclass(frozen=True)
class LearnableWeightScaling(Classifier):
    """Logits s (W z + b): the joint classifier with one learned scale a class.

    As in the paper's code the scale multiplies the bias too; without `scale_bias` they are s (W z) + b.
    """

    name: ClassVar[ClassifierName] = "lws"

    weight_CD: Tensor
    bias_C: Tensor
    scale_C: Tensor
    scale_bias: bool

    @classmethod
    def fit(
        cls, joint: Joint, train: BankSplit, config: RetrainConfig, *, seed: int, device: torch.device
    ) -> "LearnableWeightScaling":
        """Learn the scales, from 1, with class-balanced sampling; everything else stays as it is.

        Weight decay draws the scales to 0, as in the paper's code.

        Raises:
            DataError: Where the training diverges.
        """
        assert joint.bias_C is not None
        scale_C = torch.ones(train.num_classes, device=device, requires_grad=True)
        scaled = cls(joint.weight_CD, joint.bias_C, scale_C, config.bias)
        minimise(scaled.logits, [scale_C], train, config, seed=seed, device=device, description="LWS")
        refuse_divergence("lws", scale_C)
        return cls(joint.weight_CD, joint.bias_C, scale_C.detach(), config.bias)

    def logits(self, features_ND: Tensor) -> Tensor:
        """Return the logits, [N, C]."""
        bias_C = self.scale_C * self.bias_C if self.scale_bias else self.bias_C
        return tau_logits(features_ND, self.weight_CD, tau=0.0, scale=self.scale_C) + bias_C

    def rank(self, features_ND: Tensor, k: int) -> Tensor:
        """Return the k classes of the highest logits."""
        return top_classes(self.logits(features_ND), k)

    def weight(self) -> Tensor:
        """Return the scaled weights."""
        return self.scale_C[:, None] * self.weight_CD

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
