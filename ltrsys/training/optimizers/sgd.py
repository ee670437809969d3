"""Stochastic gradient descent with momentum (paper, section 5.1)."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ltrsys.errors import UsageError
from ltrsys.section import Fraction
from ltrsys.training.optimizers.base import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.register
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    name = "sgd"
    summary = "stochastic gradient descent with momentum"
    source = "Kang et al., 2020, section 5.1"
    order = 0

    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    nesterov: bool = False
    impl: Literal["auto", "torch", "apex"] = "auto"
    """torch's fused SGD, which `auto` is, or NVIDIA apex's FusedSGD."""

    def build(self, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
        """Return torch's SGD, fused, or apex's."""
        import torch

        arguments: dict[str, Any] = {
            "lr": self.lr,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "nesterov": self.nesterov,
        }
        if self.impl == "apex":
            optimizer: torch.optim.Optimizer = _fused_sgd_of_apex(device)(groups, **arguments)
            return optimizer
        return torch.optim.SGD(groups, fused=device.type in ("cpu", "cuda"), **arguments)


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
