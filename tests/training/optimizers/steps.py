"""Steps of an optimizer without a loss."""

from collections.abc import Iterable

import torch
from torch import nn


def take_steps(network: nn.Module, optimizer: torch.optim.Optimizer, seeds: Iterable[int]) -> None:
    """Take a step for each seed, with random gradients."""
    for seed in seeds:
        torch.manual_seed(seed)
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
