"""Whether a network takes images of a size: tried on torch's meta device, which computes shapes alone."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ltrsys.errors import UsageError
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import Network, build_network

USUAL_SIZES = (32, 64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 320, 384, 448, 480, 512, 518, 528, 600)
"""Sides of images that networks are made for: the nearest one that fits is where the search for others begins."""


def check_image_size(
    config: ModelConfig, image_size: int, *, one_by_one: bool = False, said: str | None = None
) -> None:
    """Refuse a network and a size that do not fit, before anything is started. It takes a tenth of a second.

    A network that computes with the values of its tensors, as one of somebody's own may, fails at every size here: it
    is not refused.

    Args:
        config: The network.
        image_size: Side of the images, in pixels.
        one_by_one: Whether it is trained on one image at a time, where BatchNorm may find a single value to a channel.
        said: What a message calls the size; `data.image_size=...` if not given.

    Raises:
        UsageError: Names both keys and the nearest size that fits, or the side that attention is to be built for; also
            for a backbone or a stem that does not exist.
    """
    said = said or f"data.image_size={image_size}"
    network = build_without_memory(config).eval()
    if not _takes(network, image_size):
        nearest = nearest_size(lambda size: _takes(network, size), image_size)
        if nearest is not None:
            raise UsageError(
                f"model.backbone={config.backbone} does not take images of {said}. The nearest "
                f"size that it takes is {nearest}; resnet50 and the other residual networks take any."
            )
    elif one_by_one and not _takes(network.train(), image_size):
        raise UsageError(
            f"train.micro_batch_size=1: of one image of {said}, model.backbone={config.backbone} leaves BatchNorm a "
            "single value to a channel. Give train.micro_batch_size=2, or a larger data.image_size."
        )


def build_without_memory(config: ModelConfig, num_classes: int = 2) -> Network:
    """Build the network of `config` on the meta device; torch's generator stays as it is.

    Raises:
        UsageError: For a backbone or a stem that does not exist.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with _EmptyOnMeta():
                network = build_network(config, num_classes)
        except RuntimeError:  # one of somebody's own that looks at its weights
            network = build_network(config, num_classes)
    return network.to("meta")


class _EmptyOnMeta(TorchFunctionMode):
    """Weights begin as `torch.empty`. Under the device `meta` as a whole, RegNets cannot be built: they compute their
    widths by tensors."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return function(*args, **kwargs)


def nearest_size(fits: Callable[[int], bool], size: int) -> int | None:
    """Return a size that fits, found by halving the way from `size` to a usual one; None where no usual one fits.

    Args:
        fits: Whether a size fits.
        size: What does not fit.
    """
    fitting = next((usual for usual in sorted(USUAL_SIZES, key=lambda usual: abs(usual - size)) if fits(usual)), None)
    if fitting is None:
        return None
    beyond = size
    while abs(fitting - beyond) > 1:
        middle = (fitting + beyond) // 2
        if fits(middle):
            fitting = middle
        else:
            beyond = middle
    return fitting


@torch.inference_mode()
def _takes(network: Network, size: int) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            network(torch.empty(1, 3, size, size, device="meta"))
    except UsageError:  # of attention that is built for another size: it says for which
        raise
    except Exception:  # AssertionError, RuntimeError, ValueError: networks say of shapes what they like
        return False
    return True
