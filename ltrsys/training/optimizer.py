"""Stochastic gradient descent: groups of parameters, and which implementation updates them."""

import importlib
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from ltrsys.errors import UsageError
from ltrsys.models.network import Network
from ltrsys.training.config import OptimizerConfig

BASE_LR = "base_lr"
"""Key of a parameter group: its learning rate before the schedule."""


def build_optimizer(network: Network, config: OptimizerConfig, device: torch.device) -> torch.optim.Optimizer:
    """Build the optimizer of all trainable parameters; weight decay acts on every one, as in the paper's code.

    Raises:
        UsageError: Where `impl: apex` is asked for and cannot be had.
    """
    arguments: dict[str, Any] = {
        "lr": config.lr,
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
        "nesterov": config.nesterov,
    }
    groups = _parameter_groups(network, config)
    if config.impl == "apex":
        return _fused_sgd_of_apex(device)(groups, **arguments)
    return torch.optim.SGD(groups, fused=device.type in ("cpu", "cuda"), **arguments)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to its own learning rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group[BASE_LR] * factor


def _parameter_groups(network: Network, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Put backbone and classifier into groups of their own where their learning rates differ (Places-LT)."""
    parts: list[tuple[nn.Module, float]] = [(network, config.lr)]
    if config.backbone_lr is not None:
        parts = [(network.classifier, config.lr), (network.backbone, config.backbone_lr)]
    return [
        {"params": [parameter for parameter in part.parameters() if parameter.requires_grad], "lr": lr, BASE_LR: lr}
        for part, lr in parts
    ]


def _fused_sgd_of_apex(device: torch.device) -> Any:
    """Return apex's FusedSGD."""
    if device.type != "cuda":
        raise UsageError("train.optimizer.impl: `apex` needs a GPU, and this is a CPU. Use `auto` or `torch`.")
    try:
        return importlib.import_module("apex.optimizers").FusedSGD
    except (ImportError, AttributeError) as error:
        raise UsageError(f"train.optimizer.impl: {_explain_apex(error)} Or use `impl: torch`.") from error


def _explain_apex(error: Exception) -> str:
    if find_spec("apex") is None:
        return "NVIDIA apex is not installed. Build it from github.com/NVIDIA/apex (PyPI's `apex` is unrelated)."
    if find_spec("apex.optimizers") is None:
        return (
            "the `apex` that is installed is not NVIDIA's but the web toolkit of that name on PyPI. Run "
            "`pip uninstall apex` and build NVIDIA's from github.com/NVIDIA/apex."
        )
    return f"NVIDIA apex is installed without its CUDA extensions ({error}). Build it again with them."
