"""What is asked of a library of networks: names, a network without its head, what goes into it, published weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ltrsys.data.config import Interpolation
from ltrsys.errors import UsageError
from ltrsys.registry import Method, Registry

if TYPE_CHECKING:
    from torch import Tensor, nn


NO_DROP_PATH = (
    "it is set for residual networks and transformers of timm alone. Give model.drop_path=0, or such a network as "
    "model.backbone=timm/NAME."
)
"""Ends the line about a network that has none."""


@dataclass(frozen=True)
class Headless:
    """A network without its head."""

    network: nn.Module
    """[B, 3, H, W] -> [B, D], with random weights from torch's global generator."""
    feature_dim: int
    """D."""
    head: str
    """Where the head was: the name of a submodule."""


@dataclass(frozen=True)
class NetworkInput:
    """What a network was made for: the sections' keys of the same names, `data.image_size` and others."""

    image_size: int
    """Side of the square that the network sees, in pixels."""
    resize: int
    """Evaluation resizes the short side to this."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation


@dataclass(frozen=True)
class Published:
    """Where the weights of a network are published."""

    repository: str | None = None
    """OWNER/NAME on the Hugging Face hub."""
    url: str | None = None
    """Of a file of torch's, where there is no such repository."""


class Library(Method, ABC):
    """A library of networks; its `name` and a slash begin the names of its networks."""

    @classmethod
    @abstractmethod
    def names(cls) -> list[str]:
        """Return the names of its networks, without the library's.

        Raises:
            UsageError: Where the library is not installed.
        """

    @classmethod
    @abstractmethod
    def build(cls, name: str, input_size: int | None) -> Headless:
        """Build one of its networks.

        Args:
            name: One of `names`.
            input_size: Side of the images that a network with a fixed input size is built for, in pixels; the one that
                it was published with if not given. Others take any.
        """

    @classmethod
    def build_with_drop_path(cls, name: str, input_size: int | None, rate: float) -> Headless:
        """Build one of its networks as `build` does, whose residual branches are left out at random in training.

        Args:
            name: One of `names`.
            input_size: As in `build`.
            rate: How often the last branch is left out, for each image; the ones before it less.

        Raises:
            UsageError: Where the network cannot do this.
        """
        raise UsageError(f"model.drop_path={rate:g}: {NO_DROP_PATH}")

    @classmethod
    @abstractmethod
    def input_of(cls, name: str) -> NetworkInput:
        """Return what a network was made for, as its authors evaluate it."""

    @classmethod
    @abstractmethod
    def published(cls, name: str) -> Published | None:
        """Return where its weights are published; None where they are not."""

    @classmethod
    def translated(cls, network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a published file under the names, and in the shapes, that `network` gives them.

        Positions are interpolated where the network is built for images of another size.
        """
        return dict(tensors)


LIBRARIES: Registry[type[Library]] = Registry("backbone library", "ltrsys.models.backbones.libraries")


def library_of(backbone: str) -> tuple[type[Library], str] | None:
    """Return the library that `model.backbone` names, and the network's name in it; None if it names none."""
    library, slash, name = backbone.partition("/")
    return (LIBRARIES.get(library), name) if slash and library in LIBRARIES else None
