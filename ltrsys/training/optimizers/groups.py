"""Groups of parameters: which learning rate and which weight decay each has."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import nn

    from ltrsys.models.network import Network
    from ltrsys.training.optimizers.base import Optimizer

BASE_LR = "base_lr"
"""Key of a parameter group: its learning rate before the schedule."""
HEAD = "head"
"""Key of a parameter group, where the optimizer asks for it: whether it is of the classifier or the loss."""


class _Kind(NamedTuple):
    """What the parameters of a group have in common."""

    part: int
    """Of the network, in the order of `_parts`."""
    lr: float
    decays: bool
    head: bool | None


def parameter_groups(
    network: Network, config: Optimizer, loss: nn.Module | None = None, loss_lr: float | None = None
) -> list[dict[str, Any]]:
    """Return the groups of all trainable parameters, each with its learning rate.

    Backbone and classifier are groups of their own where their learning rates differ (Places-LT), and so is what the
    loss learns: parameters of its own, and centroids of the network. They are divided further by layer and by weight
    decay where the config asks for it.

    Args:
        network: On any device.
        config: The section `train.optimizer`.
        loss: The loss, where it has parameters.
        loss_lr: The learning rate of what it learns; None for that of the classifier.
    """
    groups: dict[_Kind, dict[str, Any]] = {}
    scales, exempt = _scales(network, config), _exempt(network)
    for part, (members, lr) in enumerate(_parts(network, config, loss, loss_lr)):
        for name, parameter in members:
            if not parameter.requires_grad:
                continue
            decays = config.decay_norms_and_biases or _decays(name, parameter, exempt)
            head = not name.startswith("backbone.") if config.head_apart else None
            kind = _Kind(part, lr * scales.get(name, 1.0), decays, head)
            group = groups.setdefault(kind, {"params": [], "lr": kind.lr, BASE_LR: kind.lr})
            group["params"].append(parameter)
            if not decays:
                group["weight_decay"] = 0.0
            if head is not None:
                group[HEAD] = head
    return list(groups.values())


def _parts(
    network: Network, config: Optimizer, loss: nn.Module | None, loss_lr: float | None
) -> Iterator[tuple[list[tuple[str, nn.Parameter]], float]]:
    """Yield named parameters and their learning rate, part by part."""
    parts = [("", config.lr)]
    if config.backbone_lr is not None:
        parts = [("classifier.", config.lr), ("backbone.", config.backbone_lr)]
    by_loss = [(name, one) for name, one in network.named_parameters() if one is network.centroids]
    for prefix, lr in parts:
        named = network.named_parameters()
        yield [(name, one) for name, one in named if name.startswith(prefix) and one is not network.centroids], lr
    if loss is not None:
        by_loss += [(f"loss.{name}", one) for name, one in loss.named_parameters()]
    yield by_loss, config.lr if loss_lr is None else loss_lr


def _scales(network: Network, config: Optimizer) -> dict[str, float]:
    """Return what layer-wise decay multiplies the learning rate of each of the network's parameters by."""
    if config.layer_decay is None:
        return {}
    from ltrsys.models.trainable.layers import layers_of

    layers = layers_of(network)
    last = max(layers.values())
    return {name: config.layer_decay ** (last - layer) for name, layer in layers.items()}


def _exempt(network: Network) -> list[str]:
    """Return what the network's authors except from weight decay, such as positions; timm's networks name it."""
    named = getattr(network.backbone, "no_weight_decay", None)
    return [] if named is None else [f"backbone.{pattern}" for pattern in named()]


def _decays(name: str, parameter: nn.Parameter, exempt: list[str]) -> bool:
    """Say whether a parameter is neither a bias nor a scale, nor excepted."""
    return parameter.ndim > 1 and not any(fnmatch(name, pattern) for pattern in exempt)
