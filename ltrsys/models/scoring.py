"""Classifiers as modules, made of torch's own operations, so that they can be traced and exported with a network.

N samples, D features, C classes.
"""

from collections.abc import Callable, Mapping

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
