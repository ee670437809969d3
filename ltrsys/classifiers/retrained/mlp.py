"""A multi-layer perceptron in place of the linear classifier (paper, appendix B.6 and Table 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn, tried
from ltrsys.features.config import RetrainConfig
from ltrsys.section import Count

if TYPE_CHECKING:
    from torch import Tensor


class MLPConfig(RetrainConfig):
    """A multi-layer perceptron."""

    epochs: Count = 10
    layers: Annotated[int, Field(ge=2, le=8)] = 2
    """Linear layers; a ReLU stands between two of them. One layer is cRT."""
    hidden: Count = 2048
    """Features between two layers."""


@CLASSIFIERS.register
@dataclass(frozen=True)
class MultiLayerPerceptron(Classifier[MLPConfig]):
    """Linear layers with ReLUs between them, trained with class-balanced sampling on the frozen features."""

    name = "mlp"
    summary = "a fresh multi-layer perceptron, trained with class-balanced sampling"
    source = "Kang et al., 2020, appendix B.6"
    order = 50
    label, color, marker = "MLP", "#6A3D9A", "p"
    calibration_folds = 1
    trained_as_softmax = True
    Config = MLPConfig
    grid = tried(layers=(2, 3), hidden=(2048, 512))
    depends_on_seed = True
    has_weight_norms = False

    weights: tuple[Tensor, ...]
    """Of each layer, [out, in]."""
    biases: tuple[Tensor, ...]
    """Of each layer, [out]; the last layer may have none."""

    @classmethod
    def fit(cls, context: FitContext, config: MLPConfig) -> Self:
        """Start from torch's random weights of linear layers and train them all.

        Raises:
            DataError: Where the training diverges.
        """
        import torch
        from torch import nn

        from ltrsys.features.balanced_sgd import minimise, refuse_divergence

        train = context.train
        sizes = [train.num_features, *[config.hidden] * (config.layers - 1), train.num_classes]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            layers = [
                nn.Linear(size, following, bias=place < config.layers - 1 or config.bias)
                for place, (size, following) in enumerate(pairwise(sizes))
            ]
        parameters = [parameter for layer in layers for parameter in layer.to(context.device).parameters()]
        network = cls(
            tuple(layer.weight for layer in layers), tuple(layer.bias for layer in layers if layer.bias is not None)
        )
        minimise(
            network.scores, parameters, train, config, seed=context.seed, device=context.device, description=cls.label
        )
        refuse_divergence(cls.name, *parameters)
        return cls(*(tuple(tensor.detach() for tensor in part) for part in (network.weights, network.biases)))

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the logits, [N, C]."""
        from itertools import zip_longest

        from torch.nn import functional

        hidden = features_ND
        for place, (weight, bias) in enumerate(zip_longest(self.weights, self.biases)):
            hidden = functional.linear(functional.relu(hidden) if place else hidden, weight, bias)
        return hidden

    def params(self) -> dict[str, Any]:
        """Return the number of layers and of features between them."""
        return {"layers": len(self.weights), "hidden": self.weights[0].shape[0]}

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say how many layers of what size."""
        return f"{params['layers']} layers, {params['hidden']} hidden"

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and biases by the number of the layer."""
        return {
            f"{what}{place}": tensor
            for what, part in (("weight", self.weights), ("bias", self.biases))
            for place, tensor in enumerate(part)
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from weights and biases."""
        parts = (
            tuple(tensors[key] for place in range(len(tensors)) if (key := f"{what}{place}") in tensors)
            for what in ("weight", "bias")
        )
        return cls(*parts)
