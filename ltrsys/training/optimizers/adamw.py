"""Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ltrsys.errors import UsageError
from ltrsys.section import Fraction, Positive
from ltrsys.training.optimizers.base import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.register
class AdamW(Optimizer):
    """Adam with decoupled weight decay."""

    name = "adamw"
    summary = "Adam with decoupled weight decay"
    source = "Loshchilov and Hutter, 2019"
    order = 10
    state_copies = 2

    lr: Positive = 1e-3
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    impl: Literal["auto", "torch", "deepspeed"] = "auto"
    """torch's fused AdamW, which `auto` is, or DeepSpeed's FusedAdam."""

    @property
    def takes_flat_memory(self) -> bool:
        """DeepSpeed's goes over memory, whatever the layout of weights, gradients and state; torch's does not."""
        return self.impl == "deepspeed"

    def build(self, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
        """Return torch's AdamW, fused, or DeepSpeed's."""
        import torch

        arguments: dict[str, Any] = {
            "lr": self.lr,
            "betas": (self.beta1, self.beta2),
            "eps": self.eps,
            "weight_decay": self.weight_decay,
        }
        if self.impl == "deepspeed":
            return _fused_adam_of_deepspeed(groups, device, **arguments)
        return torch.optim.AdamW(groups, fused=device.type in ("cpu", "cuda"), **arguments)


def _fused_adam_of_deepspeed(
    groups: list[dict[str, Any]], device: torch.device, **arguments: Any
) -> torch.optim.Optimizer:
    """Return DeepSpeed's FusedAdam, which is compiled at its first use on a machine."""
    if device.type != "cuda":
        raise UsageError("train.optimizer.impl: `deepspeed` needs a GPU, and this is a CPU. Use `auto` or `torch`.")
    from deepspeed.ops.adam import FusedAdam

    try:
        optimizer: torch.optim.Optimizer = FusedAdam(groups, adam_w_mode=True, **arguments)
    except Exception as error:  # whatever ends a compilation
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UsageError(
            f"train.optimizer.impl: DeepSpeed's FusedAdam could not be compiled ({reason}). Install the CUDA toolkit "
            "of torch's version, or use `torch`."
        ) from error
    return optimizer
