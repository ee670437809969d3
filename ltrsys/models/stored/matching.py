"""Whether tensors are those of a network: what is missing, superfluous or of another shape, and which they fit."""

import difflib
from collections.abc import Iterable, Mapping
from itertools import takewhile

import torch
from torch import Tensor

from ltrsys.errors import LtrsysError
from ltrsys.models.backbones.base import build_backbone, head_places, known_backbones
from ltrsys.models.config import ModelConfig

SHOWN = 10
"""Tensors of a kind that an error names one by one."""

COUNTER = ".num_batches_tracked"
"""Ends the name of a counter that files of PyTorch before 0.4.1 lack, and that evaluation does not look at."""

HINTED, RELATIVES = 8, 80
"""Networks that are tried, to say what a file is of: of a name like a hint, and of one family."""


def differences(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """Name what is missing, superfluous or of another shape; empty where all is as wanted."""
    reshaped = [
        f"{name} {list(tensors[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    found = {
        "missing": _listed(name for name in wanted if name not in tensors and not name.endswith(COUNTER)),
        "superfluous": _listed(name for name in tensors if name not in wanted),
        "of another shape": _listed(reshaped),
    }
    return "; ".join(f"{kind}: {names}" for kind, names in found.items() if names)


def fitting_backbone(tensors: Mapping[str, Tensor], config: ModelConfig, hint: str) -> str | None:
    """Return the backbone whose tensors these are, of the family of that of `config` or with a name like a hint.

    Args:
        tensors: Of a backbone, under its own names; those of a head may be among them.
        config: Of the network that they do not fit.
        hint: Such as the name of the file.
    """
    known = [name for name in known_backbones() if "." not in name]  # a tag names weights of the same network
    own, slash, _ = config.backbone.partition("/")
    names = [name for name in known if name.startswith(f"{own}/") == bool(slash)]
    hinted = difflib.get_close_matches(f"{own}/{hint}" if slash else hint, names, HINTED, 0.5)
    relatives = [name for name in names if _family(name) == _family(config.backbone)]
    for name in dict.fromkeys([*hinted, *relatives[:RELATIVES]]):
        try:
            with torch.device("meta"):
                network, _ = build_backbone(config.model_copy(update={"backbone": name}))
        except (LtrsysError, RuntimeError):  # networks without a linear head, and some that compute as they are built
            continue
        heads = head_places(network)
        own_tensors = {key: value for key, value in tensors.items() if key.rpartition(".")[0] not in heads}
        if not differences(network.state_dict(), own_tensors):
            return name
    return None


def _family(name: str) -> str:
    """Return what a name begins with, up to its first digit: `timm/resnet` of `timm/resnet18d`."""
    return "".join(takewhile(lambda letter: not letter.isdigit(), name))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
