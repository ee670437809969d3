"""What every optimizer is: its settings, and the torch optimizer that they give; its state by parameter names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ltrsys.method_section import MethodSection
from ltrsys.registry import Registry
from ltrsys.section import Positive

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ltrsys.models.network import Network

BASE_LR = "base_lr"
"""Key of a parameter group: its learning rate before the schedule."""


class Optimizer(MethodSection):
    """How the first stage updates the weights: the section `train.optimizer`."""

    state_copies: ClassVar[int] = 1
    """How many times the memory of the weights its state takes."""

    lr: Positive = 0.2
    """Learning rate at the start, for the batch as configured."""
    backbone_lr: Positive | None = None
    """Another learning rate for the backbone; `lr` is then the classifier's (Places-LT)."""

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
    """Build the optimizer of all trainable parameters; weight decay acts on every one, as in the paper's code.

    Backbone and classifier are groups of their own where their learning rates differ (Places-LT), and so is what the
    loss learns: parameters of its own, and centroids of the network.

    Args:
        network: On the device.
        config: The section `train.optimizer`.
        device: Where it runs.
        loss: The loss, where it has parameters.
        loss_lr: The learning rate of what it learns; None for that of the classifier.

    Raises:
        UsageError: Where the optimizer cannot run on this machine.
    """
    parts: list[tuple[nn.Module, float]] = [(network, config.lr)]
    if config.backbone_lr is not None:
        parts = [(network.classifier, config.lr), (network.backbone, config.backbone_lr)]
    by_loss = [] if network.centroids is None else [network.centroids]
    members = [([one for one in part.parameters() if one is not network.centroids], lr) for part, lr in parts]
    if loss is not None:
        by_loss += loss.parameters()
    if by_loss:
        members.append((by_loss, config.lr if loss_lr is None else loss_lr))
    groups = [
        {"params": [parameter for parameter in parameters if parameter.requires_grad], "lr": lr, BASE_LR: lr}
        for parameters, lr in members
    ]
    return config.build(groups, device)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to its own learning rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group[BASE_LR] * factor


def state_by_name(optimizer: torch.optim.Optimizer, trained: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as `<parameter>.<what>`, such as `classifier.bias.momentum_buffer`.

    Empty before the first step.
    """
    if not optimizer.state:
        return {}
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(flatten_optimizer_state_dict=True)
    flat: dict[str, Any] = get_optimizer_state_dict(trained, optimizer, options=options)
    return {name.removeprefix("state."): value for name, value in flat.items() if name.startswith("state.")}


def load_state_by_name(optimizer: torch.optim.Optimizer, trained: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take over what `state_by_name` returned, copied, in the memory format of the parameters."""
    if not state:
        return
    import torch
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )

    options = StateDictOptions(flatten_optimizer_state_dict=True)
    flat: dict[str, Any] = get_optimizer_state_dict(
        trained, optimizer, options=options
    )  # with a state that is to be replaced
    for name, value in state.items():
        place = torch.empty_like(flat[f"state.{name}"], memory_format=torch.preserve_format)
        flat[f"state.{name}"] = place.copy_(value)
    set_optimizer_state_dict(trained, optimizer, flat, options=options)
