"""What every optimizer is: its settings, and the torch optimizer that they give."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from ltrsys.method_section import MethodSection
from ltrsys.registry import Registry
from ltrsys.section import Positive
from ltrsys.training.optimizers.groups import BASE_LR, parameter_groups

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ltrsys.models.network import Network


class Optimizer(MethodSection):
    """How the first stage updates the weights: the section `train.optimizer`."""

    state_copies: ClassVar[int] = 1
    """How many times the memory of the weights its state takes."""
    head_apart: ClassVar[bool] = False
    """Whether the classifier, and what the loss learns, are groups of their own, marked by the key `head`."""
    whole_parameters: ClassVar[bool] = False
    """Whether an update depends on the whole of a parameter, which ZeRO 1 cuts in parts; else number by number."""

    lr: Positive = 0.2
    """Learning rate at the start, for the batch as configured."""
    backbone_lr: Positive | None = None
    """Another learning rate for the backbone; `lr` is then the classifier's (Places-LT)."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """The learning rate of a layer over that of the next one, towards the classifier's (BEiT: Bao et al., 2022); 1, or
    null, for one rate."""
    decay_norms_and_biases: bool = True
    """Whether weight decay acts on what has one dimension (biases, scales of norms) and on what a network of timm
    excepts, such as positions, as it does on all else."""

    @property
    def takes_flat_memory(self) -> bool:
        """Whether weights must lie in memory as their indices count, which those of `channels_last` do not."""
        return False

    @abstractmethod
    def build(self, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
        """Return torch's optimizer of groups of parameters, which have their learning rates.

        Raises:
            UsageError: Where it cannot run on this machine.
        """


OPTIMIZERS: Registry[type[Optimizer]] = Registry("optimizer", "ltrsys.training.optimizers")


def build_optimizer(
    network: Network,
    config: Optimizer,
    device: torch.device,
    loss: nn.Module | None = None,
    loss_lr: float | None = None,
) -> torch.optim.Optimizer:
    """Build the optimizer of all trainable parameters.

    Weight decay acts on every one, as in the paper's code, unless `config` says otherwise.

    Args:
        network: On the device.
        config: The section `train.optimizer`.
        device: Where it runs.
        loss: The loss, where it has parameters.
        loss_lr: The learning rate of what it learns; None for that of the classifier.

    Raises:
        UsageError: Where the optimizer cannot run on this machine.
    """
    return config.build(parameter_groups(network, config, loss, loss_lr), device)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to its own learning rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group[BASE_LR] * factor
