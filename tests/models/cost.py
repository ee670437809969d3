"""What a network costs: its parameters, and its multiply-adds for one image."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable scalars."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def count_multiply_adds(module: nn.Module, image_size: int) -> int:
    """Return the multiply-adds of convolutions and matrix products for one image of `image_size` pixels a side.

    Costs nothing on a module that was built under `torch.device("meta")`.
    """
    device = next(module.parameters()).device
    image = torch.zeros(1, 3, image_size, image_size, device=device)
    training = module.training
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module.eval()(image)
    finally:
        module.train(training)
    return counter.get_total_flops() // 2  # the counter takes a multiply-add for two operations
