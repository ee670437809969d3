"""Low-rank adapters of attention layers, which are all of a transformer that is then trained: `model.lora`.

peft puts them in for training. On disk a run's model is the plain network, into whose weights they have been added.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ltrsys.errors import UsageError
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import Network

ATTENTION = "attn"
"""What timm calls the attention of a block."""
BASE, ADAPTERS = "base_layer", ("lora_A", "lora_B")
"""Where peft puts a layer, and what it adds to it."""


def add_adapters(network: Network, config: ModelConfig) -> None:
    """Put adapters into the attention layers of the backbone, which computes the same as before.

    A layer W x + b becomes W x + b + alpha/rank · B A dropout(x), with A [rank, in] from torch's global generator and
    B [out, rank] of zeros (Hu et al., 2022, section 4.1). `ltrsys.models.trainable.freezing` says what is trained.

    Args:
        network: With its initial weights, or on the meta device; nothing is done to it without `config.lora`.
        config: What it was built of.

    Raises:
        UsageError: Where the backbone has no such layers, or peft is not installed.
    """
    if config.lora is None:
        return
    layers = _attention_layers(network.backbone, config)
    lora_config, inject = _peft()
    learned = [parameter for parameter in network.backbone.parameters() if parameter.requires_grad]
    inject(
        lora_config(
            r=config.lora.rank,
            lora_alpha=config.lora.alpha,
            lora_dropout=config.lora.dropout,
            target_modules=layers,
        ),
        network.backbone,
    )
    for parameter in learned:  # peft freezes them
        parameter.requires_grad_(True)
    network.adapted_layers = tuple(f"backbone.{layer}" for layer in layers)


def check_adapters(network: Network, config: ModelConfig, image_size: int) -> None:
    """Refuse a backbone that does not call the layers with adapters, but reads their weights: it would learn nothing.

    Args:
        network: On the meta device, with its adapters.
        config: What it was built of.
        image_size: Side of the images.

    Raises:
        UsageError: Names the first such layer.
    """
    if not network.adapted_layers:
        return
    called: set[str] = set()
    for name in network.adapted_layers:
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
    with torch.inference_mode():
        network.eval()(torch.empty(1, 3, image_size, image_size, device="meta"))
    passed_over = [name for name in network.adapted_layers if name not in called]
    if passed_over:
        raise UsageError(
            f"model.lora: model.backbone={config.backbone} multiplies by the weights of {passed_over[0]} without "
            "calling it, so that adapters there would have no effect. Give another vision transformer, such as "
            "timm/vit_base_patch16_224, or leave model.lora out."
        )


def adapters_of(network: Network) -> list[str]:
    """Return the names of the submodules that are the adapters."""
    return [f"{layer}.{adapter}" for layer in network.adapted_layers for adapter in ADAPTERS]


def plain_tensors(network: Network) -> dict[str, Tensor]:
    """Return the state dict of the network without adapters that computes the same, to rounding."""
    tensors: dict[str, Tensor] = dict(network.state_dict())
    for layer in network.adapted_layers:
        tensors |= _merged(network, layer)
        for name in [
            name for name in tensors if name.startswith(tuple(f"{layer}.{one}." for one in (BASE, *ADAPTERS)))
        ]:
            del tensors[name]
    return tensors


@torch.no_grad()
def _merged(network: Network, layer: str) -> dict[str, Tensor]:
    adapted: Any = network.get_submodule(layer)
    base: nn.Linear = adapted.get_base_layer()
    (adapter,) = adapted.active_adapters
    merged = {f"{layer}.weight": base.weight + adapted.get_delta_weight(adapter)}
    return merged if base.bias is None else {**merged, f"{layer}.bias": base.bias}


def _attention_layers(backbone: nn.Module, config: ModelConfig) -> list[str]:
    """Return the names of the linear layers that `model.lora.layers` means."""
    assert config.lora is not None
    found = list(_linear_layers_of_attention(backbone))
    if not found:
        raise UsageError(
            f"model.lora adapts linear layers of attention, of which model.backbone={config.backbone} has none. Give a "
            "vision transformer of timm, such as model.backbone=timm/vit_base_patch16_224, or leave model.lora out."
        )
    present = list(dict.fromkeys(name.rpartition(".")[2] for name in found))
    for layer in config.lora.layers:
        if layer not in present:
            raise UsageError(
                f"model.lora.layers: the attention of model.backbone={config.backbone} has no linear layer `{layer}`. "
                f"It has {', '.join(present)}."
            )
    return [name for name in found if name.rpartition(".")[2] in config.lora.layers]


def _linear_layers_of_attention(backbone: nn.Module) -> Iterator[str]:
    for name, module in backbone.named_modules():
        within = name.rpartition(".")[0].rpartition(".")[2]
        if type(module) is nn.Linear and within == ATTENTION:  # torch's own attention has a kind that it never calls
            yield name


def _peft() -> tuple[Any, Any]:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UsageError("model.lora needs peft, which is not installed. Run `pip install 'ltrsys[lora]'`.") from None
    return LoraConfig, inject_adapter_in_model
