"""OLTR's memory: what is known of the classes is added to a feature (Liu et al., 2019, section 3.3; their code
`MetaEmbedding_Classifier`).

B samples, D features, C classes.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

REACH = 10.0
"""Reachability at distance 1, as in their code."""
NEAREST = 1e-6
"""Shortest distance that is told from none: a feature may be the centroid of its class, where that has one image."""

MOST_BELOW = 60.0
"""By how much the logarithm of a share may be below that of the largest."""


@dataclass(frozen=True)
class Memory:
    """Centroids M of the classes, and the two layers that read them."""

    centroids_CD: Tensor
    hallucinator_weight_CD: Tensor
    hallucinator_bias_C: Tensor
    selector_weight_DD: Tensor
    selector_bias_D: Tensor

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Take it from tensors by their names in a model's file, which `tensors` returns."""
        return cls(
            tensors["centroids"],
            tensors["hallucinator.weight"],
            tensors["hallucinator.bias"],
            tensors["selector.weight"],
            tensors["selector.bias"],
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return all that it is made of."""
        return {
            "centroids": self.centroids_CD,
            "hallucinator.weight": self.hallucinator_weight_CD,
            "hallucinator.bias": self.hallucinator_bias_C,
            "selector.weight": self.selector_weight_DD,
            "selector.bias": self.selector_bias_D,
        }

    def recall(self, features_BD: Tensor) -> Tensor:
        """Return 10/d·(x + tanh(selector(x))·softmax(hallucinator(x)) M), [B, D], in the type of the centroids.

        d is the distance from x to the nearest centroid. The gradient goes through all of it, d included.
        """
        features_BD = features_BD.to(self.centroids_CD.dtype)
        shares_BC = _shares(functional.linear(features_BD, self.hallucinator_weight_CD, self.hallucinator_bias_C))
        selected_BD = torch.tanh(functional.linear(features_BD, self.selector_weight_DD, self.selector_bias_D))
        with _without_autocast(features_BD.device.type):  # which would not tell near centroids from one another
            remembered_BD = shares_BC.to(self.centroids_CD.dtype) @ self.centroids_CD
            reach_B1 = REACH / self._distance(features_BD)
        return reach_B1 * (features_BD + selected_BD * remembered_BD)

    def _distance(self, features_BD: Tensor) -> Tensor:
        """Return the distance to the nearest centroid, [B, 1]: found by products, then measured by a difference."""
        centroids_CD = self.centroids_CD
        nearness_BC = features_BD @ centroids_CD.T - centroids_CD.square().sum(dim=1) / 2
        nearest_BD = centroids_CD[nearness_BC.argmax(dim=1)]
        return torch.linalg.vector_norm(features_BD - nearest_BD, dim=1, keepdim=True).clamp_min(NEAREST)


def _shares(logits_BC: Tensor) -> Tensor:
    """Return the softmax, with shares of less than e^-60 of the largest taken for that: no sum can tell them apart.

    Of networks with large logits most would be denormal numbers, with which a CPU's product takes 24 times as long.
    """
    return torch.maximum(logits_BC, logits_BC.detach().amax(dim=1, keepdim=True) - MOST_BELOW).softmax(dim=1)


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Leave autocast where it is on. The meta device, where shapes are tried, knows nothing of it."""
    on = device_type != "meta" and torch.is_autocast_enabled(device_type)
    return torch.autocast(device_type, enabled=False) if on else nullcontext()
