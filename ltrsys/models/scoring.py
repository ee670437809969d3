"""Classifiers as modules, made of torch's own operations, so that they can be traced and exported with a network.

N samples, D features, C classes; n training images, of which k are near.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

TensorFunction = Callable[[Tensor], Tensor]


def linear_layer(weight_CD: Tensor, bias_C: Tensor | None) -> nn.Linear:
    """Return the layer W z + b, which learns nothing any more."""
    num_classes, feature_dim = weight_CD.shape
    layer = nn.Linear(feature_dim, num_classes, bias=bias_C is not None, device="meta")
    layer.weight = nn.Parameter(weight_CD.detach().clone(), requires_grad=False)
    if bias_C is not None:
        layer.bias = nn.Parameter(bias_C.detach().clone(), requires_grad=False)
    return layer


class Normalised(nn.Module):
    """(z - c) / |z - c|, [N, D]: directions of features as seen from a centre."""

    def __init__(self, center_D: Tensor) -> None:
        super().__init__()
        self.center_D: Tensor
        self.register_buffer("center_D", center_D.detach().clone())

    def forward(self, features_ND: Tensor) -> Tensor:
        """Return the directions; zero for a feature that is the centre."""
        return functional.normalize(features_ND - self.center_D)


class Scoring(nn.Module):
    """Features [N, D] -> scores [N, C], by a function of tensors that move, and are saved, with the module."""

    def __init__(
        self, tensors: Mapping[str, Tensor], restore: Callable[[Mapping[str, Tensor]], TensorFunction]
    ) -> None:
        """Hold the tensors.

        Args:
            tensors: By name.
            restore: Makes the function of tensors of these names.
        """
        super().__init__()
        self._buffer_of = {name: name.replace(".", "_") for name in tensors}
        self._restore = restore
        for name, buffer in self._buffer_of.items():
            self.register_buffer(buffer, tensors[name].detach().clone())

    def forward(self, features_ND: Tensor) -> Tensor:
        """Return the scores."""
        return self._restore({name: self.get_buffer(buffer) for name, buffer in self._buffer_of.items()})(features_ND)


def divided_votes(labels_Nk: Tensor, counts_C: Tensor, gamma: float) -> Tensor:
    """Return log(v_j / n_j^gamma), float32 [N, C], v_j of the labels [N, k] of a sample being j.

    Where none is, v_j is n_j / n, what one training image drawn at random is expected to give.

    Args:
        labels_Nk: Classes of the nearest training images.
        counts_C: n_j, the training images of each class; minus infinity is the score of one of none.
        gamma: At most 1, so that a class without a vote stays below those that have one.
    """
    counts_C = counts_C.float()
    votes_NC = torch.zeros(labels_Nk.shape[0], counts_C.shape[0], device=labels_Nk.device)
    votes_NC = votes_NC.scatter_add(1, labels_Nk, torch.ones_like(labels_Nk, dtype=torch.float32))
    return torch.maximum(votes_NC, counts_C / counts_C.sum()).log() - gamma * counts_C.clamp_min(1).log()


class NeighbourVotes(nn.Module):
    """The votes of the k nearest training images, found by one product with all of them."""

    def __init__(
        self,
        features_nD: Tensor,
        labels_n: Tensor,
        counts_C: Tensor,
        k: int,
        gamma: float,
        distance: Literal["cosine", "euclidean"],
    ) -> None:
        """Hold the training images.

        Args:
            features_nD: Their features.
            labels_n: Their classes.
            counts_C: Images of each class.
            k: How many vote; all, where there are fewer.
            gamma: Votes are divided by this power of the counts.
            distance: By which images are near.
        """
        super().__init__()
        self.k, self.gamma, self.cosine = min(k, len(labels_n)), gamma, distance == "cosine"
        self.search: nn.Module
        if self.cosine:
            self.search = linear_layer(functional.normalize(features_nD), None)
        else:
            # -|z - t|^2, less |z|^2, is 2 t z - |t|^2; measured from the mean of t, of smaller numbers
            origin_D = features_nD.double().mean(dim=0)
            deviations_nD = features_nD - origin_D.float()
            bias_n = -2 * deviations_nD.double() @ origin_D - deviations_nD.double().square().sum(dim=1)
            self.search = linear_layer(2 * deviations_nD, bias_n.float())
        self.labels_n: Tensor
        self.counts_C: Tensor
        self.register_buffer("labels_n", labels_n.clone())
        self.register_buffer("counts_C", counts_C.clone())

    def forward(self, features_ND: Tensor) -> Tensor:
        """Return the logarithms of the divided votes."""
        nearness_Nn = self.search(functional.normalize(features_ND) if self.cosine else features_ND)
        return divided_votes(self.labels_n[nearness_Nn.topk(self.k, dim=1).indices], self.counts_C, self.gamma)


def mean_log_probabilities(scores: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Return the mean of log softmax(scores / temperature) over several scores [N, C], each with its temperature."""
    logarithms = [functional.log_softmax(scores_NC / temperature, dim=1) for scores_NC, temperature in scores]
    return torch.stack(logarithms).mean(dim=0)


class MeanLogProbabilities(nn.Module):
    """Features [N, D] -> the mean of the log-probabilities of several modules."""

    def __init__(self, parts: Sequence[tuple[nn.Module, float]]) -> None:
        """Hold the modules, and what their scores are divided by."""
        super().__init__()
        self.parts = nn.ModuleList(module for module, _ in parts)
        self.temperatures = [temperature for _, temperature in parts]

    def forward(self, features_ND: Tensor) -> Tensor:
        """Return the mean log-probabilities."""
        scores = (part(features_ND) for part in self.parts)
        return mean_log_probabilities(list(zip(scores, self.temperatures, strict=True)))
