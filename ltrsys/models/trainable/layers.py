"""Which layer of a network each parameter belongs to, counted from the images, for `train.optimizer.layer_decay`."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torchvision.models.resnet import ResNet

from ltrsys.errors import UsageError
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import Network

_RESNET = {"stem": r"^(?:conv1|bn1)\.", "stages": r"^layer(\d+)\."}
"""torchvision's ResNet, in the form in which timm's networks say their layers; what no pattern matches comes last."""


def check_layers(network: Network, config: ModelConfig) -> None:
    """Refuse `train.optimizer.layer_decay` for a network whose layers are not known.

    Args:
        network: On any device.
        config: What it was built of.

    Raises:
        UsageError: Names the backbone.
    """
    if layer_matcher(network.backbone) is None:
        raise UsageError(
            "train.optimizer.layer_decay needs the layers of the network, which are known of torchvision's ResNet and "
            f"ResNeXt and of timm's networks, not of model.backbone={config.backbone}. Give "
            "train.optimizer.layer_decay=null, or train.optimizer.backbone_lr for one rate of the whole backbone."
        )


def layers_of(network: Network) -> dict[str, int]:
    """Return the layer of every parameter by its name: 0 for those that see the images, the classifier's is the last.

    timm's networks have the layers that timm gives them with their own head. A ResNet of torchvision has its stem, its
    four stages, and the classifier with what the config adds before it.
    """
    from timm.models import group_parameters  # seconds, which runs without it save

    matcher = layer_matcher(network.backbone)
    assert matcher is not None, "`check_layers` has seen to it"
    backbone: Any = network.backbone
    head = "fc" if isinstance(backbone, ResNet) else _head_name(backbone)
    known_as = {
        name: name.removeprefix("backbone.") if name.startswith("backbone.") else f"{head}.{name}"
        for name, _ in network.named_parameters()
    }
    layers: dict[str, int] = group_parameters(_Renamed(network, known_as), matcher, reverse=True)
    return {name: layers[own] for name, own in known_as.items()}


def layer_matcher(backbone: Any, *, coarse: bool = False) -> Any:
    """Return the patterns of the names of parameters by layer, in timm's form; None where they are not known.

    Args:
        backbone: Of a network.
        coarse: Whether a layer is a whole stage, where timm tells stages from their blocks.
    """
    if isinstance(backbone, ResNet):
        return _RESNET
    return backbone.group_matcher(coarse=coarse) if hasattr(backbone, "group_matcher") else None


class _Renamed(nn.Module):
    """The parameters of a network under other names: those of timm's own network, with its head, for the matcher."""

    def __init__(self, network: Network, known_as: Mapping[str, str]) -> None:
        super().__init__()
        self._network, self._known_as = network, known_as

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        return ((self._known_as[name], one) for name, one in self._network.named_parameters())


def _head_name(backbone: Any) -> str:
    head = backbone.pretrained_cfg["classifier"]
    return head if isinstance(head, str) else head[0]
