"""The classification models of torchvision: what a name without a library means."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ltrsys.errors import UsageError
from ltrsys.models.backbones.libraries.base import LIBRARIES, Headless, Library, NetworkInput, Published

if TYPE_CHECKING:
    from torch import nn


@LIBRARIES.register
class Torchvision(Library):
    """`NAME` or `torchvision/NAME`."""

    name = "torchvision"
    summary = "every classification model of torchvision, with or without the library's name before its own"
    source = "docs.pytorch.org/vision"
    order = 0

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of its classification models."""
        import torchvision

        return torchvision.models.list_models(module=torchvision.models)

    @classmethod
    def build(cls, name: str, input_size: int | None) -> Headless:
        """Build a network, and take off its last layer, which must be linear."""
        import torchvision

        builder = torchvision.models.get_model_builder(name)
        known = inspect.signature(inspect.signature(builder).return_annotation).parameters
        # GoogLeNet and Inception come with auxiliary heads, whose outputs a plain classifier has no use for.
        arguments: dict[str, Any] = {}
        if "aux_logits" in known:
            arguments = {"aux_logits": False, "init_weights": True}
        if input_size is not None and "image_size" in known:
            arguments["image_size"] = input_size
        return take_head_off(builder(weights=None, **arguments), name)

    @classmethod
    def input_of(cls, name: str) -> NetworkInput:
        """Return what the transforms of its default weights say."""
        transforms = _default_weights(name).transforms()
        return NetworkInput(
            image_size=transforms.crop_size[0],
            resize=transforms.resize_size[0],
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
            interpolation="bicubic" if transforms.interpolation.value == "bicubic" else "bilinear",
        )

    @classmethod
    def published(cls, name: str) -> Published | None:
        """Return the address of its default weights."""
        return Published(url=_default_weights(name).url)


def take_head_off(network: nn.Module, name: str) -> Headless:
    """Replace the last layer of a network by the identity.

    Raises:
        UsageError: Where it is not linear.
    """
    from torch import nn

    *_, (place, head) = (
        (place, module) for place, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    )
    if not isinstance(head, nn.Linear):
        raise UsageError(
            f"model.backbone: {name} does not end in a linear layer (`{place}` is a {type(head).__name__}), so there "
            "is no classifier to balance. Choose another network."
        )
    network.set_submodule(place, nn.Identity())
    return Headless(network, head.in_features, place)


def _default_weights(name: str) -> Any:
    import torchvision

    return torchvision.models.get_model_weights(name).DEFAULT
