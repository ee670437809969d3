"""A backbone that starts from weights that others have trained: `model.pretrained`."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ltrsys.errors import DataError
from ltrsys.models.backbones.base import added_parts, head_places
from ltrsys.models.backbones.libraries.base import library_of
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import Network
from ltrsys.models.stored.matching import COUNTER, differences, fitting_backbone
from ltrsys.models.stored.published_files import FoundFile, find_weights
from ltrsys.models.stored.weights import BACKBONE, read_plain

NESTED = ("state_dict_ema", "state_dict", "model_state_dict", "model")
"""Keys under which training programs keep the weights in a larger record; averaged ones are preferred."""


def load_pretrained(network: Network, config: ModelConfig) -> FoundFile:
    """Fill the backbone of a network, and nothing else; return the file that it came from.

    Args:
        network: As `build_network` made it of `config`, on the CPU.
        config: With `pretrained`.

    Raises:
        UsageError: Where there are no such weights, or they cannot be fetched.
        DataError: Where the file is damaged, holds a pickle of anything but plain values, or is of another network:
            says what is missing, superfluous or of another shape, and of which network it is where that is found.
    """
    found = find_weights(config)
    tensors = _tensors_in(found)
    backbone = network.backbone
    wanted = backbone.state_dict()
    if config.pretrained_by_order:
        filled = _by_order(tensors, wanted, found)
    else:
        library = library_of(config.backbone)
        translated = tensors if library is None else library[0].translated(backbone, tensors)
        heads = head_places(backbone)
        filled = {name: tensor for name, tensor in translated.items() if name.rpartition(".")[0] not in heads}
    for part in added_parts(backbone):
        filled |= {name: wanted[name] for name in wanted if name.startswith(f"{part}.") and name not in filled}
    if problems := differences(wanted, filled):
        raise DataError(
            f"{found.origin}: not the tensors of model.backbone={config.backbone}: {problems}. "
            f"{_advice(tensors, wanted, config, found)}"
        )
    backbone.load_state_dict(wanted | {name: filled[name] for name in wanted if name in filled})
    return found


def _tensors_in(found: FoundFile) -> dict[str, Tensor]:
    """Return the tensors of a file, by the names that its network gives them."""
    content: Any = read_plain(found.path)
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise DataError(f"{found.origin}: holds a {type(content).__name__}, not weights by name. Give a state dict.")
    tensors = {str(name).removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}
    own = {name.removeprefix(BACKBONE): value for name, value in tensors.items() if name.startswith(BACKBONE)}
    return own or tensors  # that of a run of ltrsys, or any other


def _by_order(tensors: dict[str, Tensor], wanted: dict[str, Tensor], found: FoundFile) -> dict[str, Tensor]:
    """Give the tensors of a file the names of the network's, which have the same shapes in the same order.

    Those of a head may follow.
    """
    pairs = list(zip(wanted, tensors, strict=False))
    other = next((pair for pair in pairs if wanted[pair[0]].shape != tensors[pair[1]].shape), None)
    if other is not None or len(tensors) < len(wanted):
        ours, theirs = other or (list(wanted)[len(tensors)], None)
        what = "nothing" if theirs is None else f"{theirs} {list(tensors[theirs].shape)}"
        raise DataError(
            f"{found.origin}: in place {list(wanted).index(ours) + 1} of the network stands {ours} "
            f"{list(wanted[ours].shape)}, and of the file {what}: it is not the same network in the same order."
        )
    return {ours: tensors[theirs] for ours, theirs in pairs}


def _advice(tensors: dict[str, Tensor], wanted: dict[str, Tensor], config: ModelConfig, found: FoundFile) -> str:
    shapes = [tensor.shape for name, tensor in wanted.items() if not name.endswith(COUNTER)]
    theirs = [tensor.shape for name, tensor in tensors.items() if not name.endswith(COUNTER)]
    if shapes == theirs[: len(shapes)] and not set(wanted) & set(tensors):
        return "They have the same shapes in the same order: give model.pretrained_by_order=true."
    if (other := fitting_backbone(tensors, config, found.path.stem)) is not None:
        return f"They are those of model.backbone={other}."
    return "Give the backbone that they are of."
