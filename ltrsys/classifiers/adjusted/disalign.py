"""DisAlign: the joint logits, scaled and shifted by class as far as the feature asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn, tried
from ltrsys.classifiers.joint import Joint
from ltrsys.features.config import RetrainConfig
from ltrsys.section import Count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class DisAlignConfig(RetrainConfig):
    """DisAlign."""

    epochs: Count = 10
    rho: Annotated[float, Field(ge=0)] = 1.0
    """An image of class j weighs (1/pi_j)^rho, pi_j the share of its class in the training images."""


@CLASSIFIERS.register
@dataclass(frozen=True)
class DisAlign(Classifier[DisAlignConfig]):
    """Logits c (a_j z_j + b_j) + (1 - c) z_j of the joint logits z, with the confidence c = sigmoid(v x) of a feature.

    a, b and v are learned. As in the authors' code, v x has a bias, and all else stays as it is.
    """

    name = "disalign"
    summary = "the joint logits, scaled and shifted by class as far as a learned confidence of the feature says"
    source = "Zhang et al., 2021, equations 5 to 8"
    order = 42
    label, color, marker = "DisAlign", "#661100", "1"
    calibration_folds = 1
    trained_as_softmax = True
    Config = DisAlignConfig
    grid = tried(rho=(1.0, 0.5, 1.5))
    depends_on_seed = True
    uses_joint = True
    has_weight_norms = False

    joint: Joint
    scale_C: Tensor
    """a."""
    shift_C: Tensor
    """b."""
    confidence_D: Tensor
    """v."""
    confidence_bias: Tensor
    """Of v x, []."""
    rho: float

    @classmethod
    def fit(cls, context: FitContext, config: DisAlignConfig) -> Self:
        """Learn a from 1, and b and v from 0, on every image alike, with weights for the classes.

        The weights are divided by their mean over the training images, so that rho does not change how fast it learns.

        Raises:
            DataError: Where the training diverges.
        """
        import torch

        from ltrsys.features.balanced_sgd import instance_order, minimise, refuse_divergence

        train, device = context.train, context.device
        scale_C = torch.ones(train.num_classes, device=device, requires_grad=True)
        shift_C = torch.zeros(train.num_classes, device=device, requires_grad=True)
        confidence_D = torch.zeros(train.num_features, device=device, requires_grad=True)
        bias = torch.zeros((), device=device, requires_grad=True)
        learned = [scale_C, shift_C, confidence_D, bias]
        head = cls(context.joint(), scale_C, shift_C, confidence_D, bias, config.rho)
        minimise(
            head.scores,
            learned,
            train,
            config,
            seed=context.seed,
            device=device,
            description=cls.label,
            order=instance_order,
            class_weight_C=torch.from_numpy(class_weights(train.class_counts, config.rho)).to(device),
        )
        refuse_divergence(cls.name, *learned)
        return cls(head.joint, scale_C.detach(), shift_C.detach(), confidence_D.detach(), bias.detach(), config.rho)

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the aligned logits, [N, C]."""
        joint_NC = self.joint.scores(features_ND)
        confidence_N = (features_ND @ self.confidence_D + self.confidence_bias).sigmoid()
        return joint_NC + confidence_N[:, None] * ((self.scale_C - 1) * joint_NC + self.shift_C)

    def params(self) -> dict[str, Any]:
        """Return rho, and what the joint classifier says."""
        return {"rho": self.rho} | self.joint.params()

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say rho."""
        return f"ρ = {params['rho']:.4g}"

    def tensors(self) -> dict[str, Tensor]:
        """Return those of the joint classifier, a, b and v."""
        return self.joint.tensors() | {
            "align.scale": self.scale_C,
            "align.shift": self.shift_C,
            "confidence.weight": self.confidence_D,
            "confidence.bias": self.confidence_bias,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from these."""
        return cls(
            Joint.restore(tensors, params, None),
            tensors["align.scale"],
            tensors["align.shift"],
            tensors["confidence.weight"],
            tensors["confidence.bias"],
            float(params["rho"]),
        )


def class_weights(class_counts: NDArray[np.int64], rho: float) -> NDArray[np.float32]:
    """Return the weight of an image of each class, float32 [C], 1 on average over the images: as (1/pi_j)^rho."""
    import numpy as np

    shares = np.maximum(class_counts, 1) / class_counts.sum()
    weights = shares**-rho
    return (weights / np.average(weights, weights=class_counts)).astype(np.float32)
