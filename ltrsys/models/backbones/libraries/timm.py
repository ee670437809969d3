"""The classification models of timm (pytorch-image-models)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ltrsys.errors import UsageError
from ltrsys.models.backbones.libraries.base import (
    LIBRARIES,
    NO_DROP_PATH,
    Headless,
    Library,
    NetworkInput,
    Published,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


@LIBRARIES.register
class Timm(Library):
    """`timm/NAME`, also with the tag of its weights: `timm/vit_base_patch16_224.augreg_in21k`."""

    name = "timm"
    summary = "every classification model of timm, by its name there"
    source = "github.com/huggingface/pytorch-image-models"
    order = 10

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all architectures, and those with the tag of published weights."""
        import timm

        return [*timm.list_models(), *timm.list_models(pretrained=True)]

    @classmethod
    def build(cls, name: str, input_size: int | None) -> Headless:
        """Build a network that ends in its pooled features."""
        return _build(name, input_size)

    @classmethod
    def build_with_drop_path(cls, name: str, input_size: int | None, rate: float) -> Headless:
        """Build a network with timm's `drop_path_rate` (Huang et al., 2016, stochastic depth)."""
        from timm.layers import DropPath

        refused = UsageError(
            f"model.drop_path={rate:g}: model.backbone=timm/{name} has no such branches: {NO_DROP_PATH}"
        )
        try:
            built = _build(name, input_size, drop_path_rate=rate)
        except TypeError as error:
            if "drop_path_rate" not in str(error):
                raise
            raise refused from None
        if not any(isinstance(module, DropPath) for module in built.network.modules()):
            raise refused
        return built

    @classmethod
    def input_of(cls, name: str) -> NetworkInput:
        """Return what `pretrained_cfg` says."""
        known = _pretrained_cfg(name)
        size = int(known.input_size[-1])
        return NetworkInput(
            image_size=size,
            resize=max(size, int(size / known.crop_pct)),
            mean=known.mean,
            std=known.std,
            interpolation="bilinear" if known.interpolation == "bilinear" else "bicubic",
        )

    @classmethod
    def published(cls, name: str) -> Published | None:
        """Return the repository on the hub, or the address."""
        known = _pretrained_cfg(name)
        if known.hf_hub_id:
            return Published(repository=known.hf_hub_id)
        return Published(url=known.url) if known.url else None

    @classmethod
    def translated(cls, network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Do what timm does to files of the network: names of other code are timm's, positions are interpolated."""
        module = sys.modules[type(network).__module__]
        translate = getattr(module, "checkpoint_filter_fn", None)  # timm's own name for it, in all families with one
        translated: dict[str, Tensor] = dict(tensors) if translate is None else translate(dict(tensors), network)
        return translated


def _build(name: str, input_size: int | None, **options: Any) -> Headless:
    import timm

    if input_size is not None and _has_fixed_size(name):
        options["img_size"] = input_size
    network: Any = timm.create_model(name, num_classes=0, **options)
    head = network.pretrained_cfg["classifier"]
    return Headless(network, network.head_hidden_size, head if isinstance(head, str) else head[0])


def _pretrained_cfg(name: str) -> Any:
    import timm

    known = timm.get_pretrained_cfg(name)
    return timm.models.PretrainedCfg() if known is None else known


def _has_fixed_size(name: str) -> bool:
    return bool(_pretrained_cfg(name).fixed_input_size)
