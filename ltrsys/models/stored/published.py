"""Weights that others published, under the names of our network.

Three layouts are known; in each, `module.` may stand before a name, which DataParallel puts there.

paper       {"state_dict_best": {"feat_model": {...}, "classifier": {"fc.weight", "fc.bias"}}}: what the code of the
            paper saves at the end, or under "state_dict" while it trains. Its networks have torchvision's names and
            no head. After LWS, `scales` [C] stands beside `fc`, and the logits are scales * (W z + b). A feature
            layer is `fc_add`, attention `modulatedatt`; after OLTR's second stage, the classifier is
            {"fc_hallucinator.*", "fc_selector.*", "cosnorm_classifier.weight"}, and "centroids" [C, D] stand beside
            the state dict.
torchvision the state dict of a network with its head; also as the "state_dict" or "model" of a larger record
ltrsys      the model.safetensors of a run
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltrsys.errors import DataError
from ltrsys.models.backbones.base import head_places
from ltrsys.models.backbones.resnet import RESNETS
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import Network, build_network
from ltrsys.models.stored.matching import differences
from ltrsys.models.stored.weights import BACKBONE, read_plain

CLASSIFIER, SCALES = "classifier.", "classifier.scales"
OURS = {
    "backbone.fc_add.": "backbone.fc.linear.",
    "backbone.modulatedatt.theta.": "backbone.avgpool.attention.query.",
    "backbone.modulatedatt.phi.": "backbone.avgpool.attention.key.",
    "backbone.modulatedatt.g.": "backbone.avgpool.attention.value.",
    "backbone.modulatedatt.conv_mask.": "backbone.avgpool.attention.output.",
    "backbone.modulatedatt.fc_spatial.": "backbone.avgpool.attention.places.",
    "classifier.fc_hallucinator.": "classifier.hallucinator.",
    "classifier.fc_selector.": "classifier.selector.",
    "classifier.cosnorm_classifier.": "classifier.",
}
"""What begins a name in the paper's layout, and in a network whose config has that part."""


@dataclass(frozen=True)
class Published:
    """The network of a published file."""

    network: Network
    layout: str
    """paper, torchvision or ltrsys."""
    scales_C: Tensor | None
    """The factors of LWS, float32, where the file has some: no part of `network`."""


def load_published(config: ModelConfig, num_classes: int, path: Path) -> Published:
    """Read a published file into the network of `config`.

    Raises:
        DataError: Where the file is missing or damaged, holds a pickle of anything but plain values, or holds
            another network (names every tensor that is missing, superfluous or of another shape).
        UsageError: For a backbone or a stem that does not exist.
    """
    with torch.random.fork_rng(devices=[]):
        network = build_network(config, num_classes)
    layout, tensors = _under_our_names(read_plain(path), network, path)
    scales = tensors.pop(SCALES, None)
    wanted = network.state_dict()
    _check_classes(tensors, num_classes, path)
    if problems := differences(wanted, tensors):
        advice = "Give the config of the network it is of."
        if keys := _keys_of_parts(tensors):
            advice = f"Its network has {' '.join(keys)}."
        elif other := _backbone_that_fits(tensors, config, num_classes):
            advice = f"They are those of model.backbone={other}."
        raise DataError(f"{path}: not the tensors of model.backbone={config.backbone}: {problems}. {advice}")
    if scales is not None and scales.shape != (num_classes,):
        raise DataError(f"{path}: `scales` has shape {list(scales.shape)}, and there are {num_classes} classes.")
    network.load_state_dict(wanted | tensors)
    return Published(network, layout, None if scales is None else scales.float())


def _under_our_names(content: Any, network: Network, path: Path) -> tuple[str, dict[str, Tensor]]:
    """Find the layout of a file; return its name and the tensors as backbone.* and classifier.*."""
    state = content
    for key in ("state_dict_best", "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            state = content[key]
            break
    if not isinstance(state, Mapping):
        raise DataError(f"{path}: holds a {type(state).__name__}, not weights by name. Give a state dict.")
    if isinstance(state.get("feat_model"), Mapping) and isinstance(state.get("classifier"), Mapping):
        backbone, classifier = (_plain_names(state[part], path) for part in ("feat_model", "classifier"))
        named = {BACKBONE + name: tensor for name, tensor in backbone.items()}
        named |= {CLASSIFIER + name.removeprefix("fc."): value for name, value in classifier.items()}
        if isinstance(centroids := content.get("centroids"), Tensor):
            named[CLASSIFIER + "centroids"] = centroids
        return "paper", _with_our_parts(named, network)
    tensors = _plain_names(state, path)
    if any(name.startswith(BACKBONE) for name in tensors):
        return "ltrsys", tensors
    heads = head_places(network.backbone)
    named = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        named[(CLASSIFIER + leaf) if module in heads else BACKBONE + name] = tensor
    return "torchvision", named


def _with_our_parts(tensors: dict[str, Tensor], network: Network) -> dict[str, Tensor]:
    """Rename what belongs to parts that the network has; others keep the names that their file gives them."""
    wanted, named = network.state_dict(), {}
    for name, tensor in tensors.items():
        theirs = next((start for start in OURS if name.startswith(start)), "")
        ours = OURS.get(theirs, "") + name.removeprefix(theirs)
        named[ours if ours in wanted else name] = tensor
    return named


def _keys_of_parts(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the settings of parts in the paper's layout that kept their names, as the config lacks them."""
    keys = []
    if (bias := tensors.get("backbone.fc_add.bias")) is not None:
        keys.append(f"model.feature_layer={len(bias)}")
    if (bias := tensors.get("backbone.modulatedatt.fc_spatial.bias")) is not None:
        keys += ["model.attention=modulated", f"model.attention_side={math.isqrt(len(bias))}"]
    if "classifier.fc_hallucinator.weight" in tensors:
        keys += ["model.head=oltr_memory", "train.loss.kind=oltr_centroids"]
    return keys


def _plain_names(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise DataError(f"{path}: `{name}` is a {type(value).__name__}, not a tensor. Give a state dict.")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _check_classes(tensors: Mapping[str, Tensor], num_classes: int, path: Path) -> None:
    weight = tensors.get(CLASSIFIER + "weight")
    if weight is not None and weight.ndim == 2 and len(weight) != num_classes:
        raise DataError(
            f"{path}: its classifier has {len(weight)} classes, and data.shards has {num_classes}. Give the config of "
            "the dataset that it was trained on; for its backbone alone, train with model.weights."
        )


def _backbone_that_fits(tensors: Mapping[str, Tensor], config: ModelConfig, num_classes: int) -> str | None:
    """Return which of the paper's backbones has exactly these tensors."""
    for name in RESNETS:
        with torch.device("meta"):
            other = build_network(config.model_copy(update={"backbone": name}), num_classes)
        if not differences(other.state_dict(), tensors):
            return name
    return None
