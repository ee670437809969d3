"""A linear layer with a ReLU between pooled features and head, which OLTR's networks have (their code: `fc_add`).

B images, F pooled features, D features.
"""

import torch
from torch import Tensor, nn


class FeatureLayer(nn.Module):
    """relu(W x + b), in the place of the head that a backbone was built with. State dict: linear.*."""

    def __init__(self, pooled_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(pooled_dim, feature_dim)

    def forward(self, pooled_BF: Tensor) -> Tensor:
        """Return the features, [B, D]."""
        return torch.relu(self.linear(pooled_BF))
