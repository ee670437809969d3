"""What a backbone is, and building one by its name: a registered one, or one of a library of networks."""

import difflib
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import suppress

from torch import nn
from torchvision.models import ResNet

from ltrsys.errors import UsageError
from ltrsys.models.backbones.attention import ModulatedAttention
from ltrsys.models.backbones.feature_layer import FeatureLayer
from ltrsys.models.backbones.libraries.base import LIBRARIES, NO_DROP_PATH, Headless, library_of
from ltrsys.models.backbones.libraries.timm import Timm
from ltrsys.models.backbones.libraries.torchvision import Torchvision, take_head_off
from ltrsys.models.config import ModelConfig
from ltrsys.registry import Method, Registry


class Backbone(Method, ABC):
    """A network that `model.backbone` names."""

    @classmethod
    @abstractmethod
    def build(cls) -> nn.Module:
        """Return the network with random weights from torch's global generator, [B, 3, H, W] -> [B, any].

        Its last layer must be linear: it is taken off, and what goes into it are the features.
        """


BACKBONES: Registry[type[Backbone]] = Registry("backbone", "ltrsys.models.backbones")


def build_backbone(config: ModelConfig) -> tuple[nn.Module, int]:
    """Build `config.backbone` with random weights and without its head, and what `config` adds to it.

    Attention is at `avgpool.attention`, and a feature layer in the place of the head, such as `fc`; all other tensors
    have the names that they have without.

    Returns:
        The module, [B, 3, H, W] -> [B, D], and D.

    Raises:
        UsageError: For a name that is not known, a network whose last layer is not linear, or a stem, attention or
            drop path that the network does not have.
    """
    built, name = _headless(config), config.backbone
    network, feature_dim = built.network, built.feature_dim
    if config.stem == "small":
        _shrink_stem(network, name)
    if config.attention == "modulated":
        _attend(network, name, feature_dim, config.attention_side)
    if config.feature_layer is not None:
        network.set_submodule(built.head, FeatureLayer(feature_dim, config.feature_layer))
        feature_dim = config.feature_layer
    return network, feature_dim


def _headless(config: ModelConfig) -> Headless:
    name = config.backbone
    if name in BACKBONES:
        if config.drop_path:
            raise UsageError(f"model.drop_path={config.drop_path:g}: {NO_DROP_PATH}")
        return take_head_off(BACKBONES.get(name).build(), name)
    library, own_name = library_of(name) or (Torchvision, name)
    if own_name not in library.names():
        raise UsageError(f"model.backbone: no network is called {name!r}. {_nearest(name)}")
    if config.drop_path:
        return library.build_with_drop_path(own_name, config.input_size, config.drop_path)
    return library.build(own_name, config.input_size)


def known_backbones() -> list[str]:
    """Return all that `model.backbone` may name, but for networks of libraries that are not installed."""
    names = BACKBONES.names()
    for library in LIBRARIES:
        prefix = "" if library is Torchvision else f"{library.name}/"
        with suppress(UsageError):
            names += [f"{prefix}{name}" for name in library.names()]
    return list(dict.fromkeys(names))


def head_places(backbone: nn.Module) -> set[str]:
    """Return the names of the modules that may stand where the backbone had its head when it was built."""
    return {name for name, module in backbone.named_modules() if isinstance(module, nn.Identity | FeatureLayer)}


def added_parts(backbone: nn.Module) -> set[str]:
    """Return the names of the modules that the config adds to a backbone: files of it without them are whole."""
    return {name for name, module in backbone.named_modules() if isinstance(module, ModulatedAttention | FeatureLayer)}


def _shrink_stem(network: nn.Module, name: str) -> None:
    """Replace the 7x7, stride-2 convolution and the max pool, which reduce an image 4-fold, for small images."""
    stem, pool = getattr(network, "conv1", None), getattr(network, "maxpool", None)
    if not (isinstance(stem, nn.Conv2d) and isinstance(pool, nn.MaxPool2d)):
        raise UsageError(f"model.stem: `small` is for ResNet and ResNeXt, not for {name}. Use `stem: imagenet`.")
    small = nn.Conv2d(3, stem.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")  # as ResNet's own convolutions
    network.conv1, network.maxpool = small, nn.Identity()


def _attend(network: nn.Module, name: str, channels: int, side: int) -> None:
    """Put attention between the last feature map, of `channels` channels and `side`² places, and its pooling."""
    if not isinstance(network, ResNet):
        raise UsageError(
            f"model.attention=modulated needs the last feature map of a residual network, and model.backbone={name} is "
            "none. Use model.attention=none, or a ResNet or ResNeXt."
        )
    attention = ModulatedAttention(channels, side)
    network.avgpool = nn.Sequential(OrderedDict(attention=attention, pool=network.avgpool))


def _nearest(name: str) -> str:
    library, slash, own_name = name.partition("/")
    if slash and library not in LIBRARIES:
        return f"Before the / stands a library: {', '.join(LIBRARIES.names())}."
    if slash:
        known = LIBRARIES.get(library).names()
        found = difflib.get_close_matches(own_name, known, n=3, cutoff=0.5)
        names = [f"{library}/{one}" for one in dict.fromkeys(found)]
    else:
        names = list(dict.fromkeys(difflib.get_close_matches(name, [*BACKBONES.names(), *Torchvision.names()], 3, 0.5)))
        names += [f"timm/{name}"] if name in Timm.names() else []
    if names:
        return f"Nearest: {', '.join(names)}."
    return f"Known: {', '.join(BACKBONES.names())}, the networks of torchvision, timm/NAME and open_clip/NAME."
