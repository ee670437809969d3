"""Weights on disk: plain tensors in safetensors files, read strictly."""

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ltrsys.errors import DataError
from ltrsys.files import write_with
from ltrsys.models.backbones.base import added_parts, head_places
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import Network, build_network
from ltrsys.models.trainable.lora import plain_tensors

BACKBONE = "backbone."
TORCH_SUFFIXES = (".pt", ".pth", ".tar", ".bin", ".ckpt")
"""Of files that torch.save wrote; every other is a safetensors file."""

_number_of_bytes: Any = np.float64(0).__reduce__()[0]
_NUMPY_NUMBERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    _number_of_bytes,
    (_number_of_bytes, "numpy.core.multiarray.scalar"),  # as files of numpy 1 name it
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")),
]
"""What may be called besides what torch allows: it makes a number, such as the best accuracy that stands in many a
published file, out of its bytes."""

_NAMED = re.compile(r"GLOBAL ([\w.]+)")
"""What a pickle wants to call, in torch's refusal."""


def save_network(network: Network, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write backbone and classifier, adapters added into them, to a safetensors file, whole or not at all."""
    save_tensors(plain_tensors(network), path, metadata)


def load_network(config: ModelConfig, num_classes: int, path: Path) -> Network:
    """Build the network of `config` and fill it, every tensor of it, from `path`.

    Raises:
        DataError: Where the file is missing or damaged, or holds another network (names the tensor).
        UsageError: For a backbone or a stem that does not exist.
    """
    with torch.random.fork_rng(devices=[]):
        network = build_network(config, num_classes)
    _fill(network, load_tensors(path), path)
    return network


def load_backbone(network: Network, path: Path) -> None:
    """Fill only the backbone from `path`: a run's `model.safetensors`, or torchvision's own file of the network.

    Attention and a feature layer of which the file holds nothing stay as they are.

    Raises:
        DataError: Where the file is missing or damaged, or holds another backbone (names the tensor).
    """
    tensors = load_tensors(path)
    if any(name.startswith(BACKBONE) for name in tensors):
        own = {name.removeprefix(BACKBONE): tensor for name, tensor in tensors.items() if name.startswith(BACKBONE)}
    else:
        # torchvision's files hold the head under a name that the headless backbone lacks.
        heads = head_places(network.backbone)
        own = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[0] not in heads}
    for part in added_parts(network.backbone):
        if not any(name.startswith(f"{part}.") for name in own):
            fresh = network.backbone.get_submodule(part).state_dict()
            own |= {f"{part}.{name}": tensor for name, tensor in fresh.items()}
    _fill(network.backbone, own, path)


def load_parts(network: nn.Module, path: Path, *, fresh: Collection[str] = ()) -> None:
    """Fill a network from a file of `save_network`, except for some of its parts.

    Args:
        network: What is filled.
        path: The file.
        fresh: Names of submodules that stay as they are, such as `classifier`: the file need not hold them, and what it
            holds of them is not looked at.

    Raises:
        DataError: Where the file is missing or damaged, or the other parts are not those of the network (names the
            tensor).
    """

    def is_fresh(name: str) -> bool:
        return any(name.startswith(f"{part}.") for part in fresh)

    own = {name: tensor for name, tensor in network.state_dict().items() if is_fresh(name)}
    _fill(network, own | {name: one for name, one in load_tensors(path).items() if not is_fresh(name)}, path)


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors, copied to the CPU in their plain layout, to a safetensors file."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_with(path, lambda beside: _write(plain, beside, metadata))


def metadata_of(path: Path) -> dict[str, str]:
    """Return what was written into a safetensors file beside its tensors.

    Raises:
        DataError: Where it is not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        reason = str(error).rstrip(".")
        raise DataError(f"{path}: not a file of plain tensors, or a damaged one ({reason}). Copy it again.") from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, or a file of torch's that holds nothing but tensors by name.

    Raises:
        DataError: Where it is missing, truncated, or of another kind.
    """
    tensors = read_plain(path)
    if not (isinstance(tensors, dict) and all(isinstance(value, Tensor) for value in tensors.values())):
        raise DataError(f"{path}: holds something other than plain tensors. Give a state dict.")
    return tensors


def read_plain(path: Path) -> Any:
    """Read a safetensors file, or a file of torch's: tensors, numbers, texts, and lists and dicts of them.

    torch's are pickles, which can name any function of any module to be called: only by `weights_only` are they read,
    and only where the suffix is `.pt`, `.pth` or the like, never in the place of a safetensors file.

    Raises:
        DataError: Where it is missing, truncated, or of another kind.
    """
    try:
        if path.suffix in TORCH_SUFFIXES:
            with torch.serialization.safe_globals(_NUMPY_NUMBERS):
                return torch.load(path, map_location="cpu", weights_only=True)
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no file of weights here.") from None
    except UnpicklingError as error:
        named = _NAMED.search(str(error))
        what = f" (it names {named[1]}, which is not called)" if named else ""
        raise DataError(
            f"{path}: holds something other than plain tensors{what}, or is damaged. Give a state dict."
        ) from None
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")  # some say nothing
        raise DataError(f"{path}: not a file of plain tensors, or a damaged one ({reason}). Copy it again.") from None


def _write(tensors: dict[str, Tensor], name: str, metadata: dict[str, str] | None) -> None:
    """Write a safetensors file; a full disk and its like are the operating system's errors again."""
    try:
        safetensors.torch.save_file(tensors, name, metadata)
    except SafetensorError as error:
        if code := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
        raise


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            raise DataError(f"{path}: tensor `{name}` is missing; the file is of another network than the config.")
        if tensors[name].shape != tensor.shape:
            raise DataError(
                f"{path}: tensor `{name}` has shape {list(tensors[name].shape)}, the config's network needs "
                f"{list(tensor.shape)}. Use the config that the file was made with."
            )
    if unexpected := [name for name in tensors if name not in wanted]:
        raise DataError(
            f"{path}: tensor `{unexpected[0]}` has no place in the config's network ({len(unexpected)} such). Use the "
            "config that the file was made with."
        )
    module.load_state_dict(tensors)
