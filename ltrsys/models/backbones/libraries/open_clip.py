"""The image towers of open_clip, whose models were trained with texts; BioCLIP is one of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ltrsys.errors import UsageError
from ltrsys.models.backbones.libraries.base import LIBRARIES, Headless, Library, NetworkInput, Published

if TYPE_CHECKING:
    from torch import Tensor, nn

TOWER = "visual."
"""Begins the names of the image tower's tensors in files of whole models."""


@LIBRARIES.register
class OpenClip(Library):
    """`open_clip/NAME`, such as `open_clip/ViT-B-16`, which BioCLIP is. Features are image embeddings."""

    name = "open_clip"
    summary = "every image tower of open_clip, by the name of its model there"
    source = "github.com/mlfoundations/open_clip"
    order = 20

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the model configs that come with open_clip."""
        names: list[str] = _open_clip().list_models()
        return names

    @classmethod
    def build(cls, name: str, input_size: int | None) -> Headless:
        """Build an image tower; the text tower that comes with it is dropped."""
        from torch import nn

        sizes = {} if input_size is None else {"force_image_size": input_size}
        with _without_warning():
            model = _open_clip().create_model(name, pretrained=None, **sizes)
        # what it gives is an embedding already: there is no head whose place could be taken
        tower = nn.Sequential()
        tower.add_module("visual", model.visual)
        tower.add_module("head", nn.Identity())
        return Headless(tower, _open_clip().get_model_config(name)["embed_dim"], "head")

    @classmethod
    def input_of(cls, name: str) -> NetworkInput:
        """Return what the model's config, and that of its first published weights, say."""
        library = _open_clip()
        size = int(library.get_model_config(name)["vision_cfg"].get("image_size", 224))
        known = _pretrained_cfg(name)
        return NetworkInput(
            image_size=size,
            resize=size,
            mean=tuple(known.get("mean", library.OPENAI_DATASET_MEAN)),
            std=tuple(known.get("std", library.OPENAI_DATASET_STD)),
            interpolation="bilinear" if known.get("interpolation") == "bilinear" else "bicubic",
        )

    @classmethod
    def published(cls, name: str) -> Published | None:
        """Return the repository on the hub, or the address, of its first published weights."""
        known = _pretrained_cfg(name)
        if known.get("hf_hub"):
            return Published(repository=known["hf_hub"].rstrip("/"))
        return Published(url=known["url"]) if known.get("url") else None

    @classmethod
    def translated(cls, network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Leave the text tower out, and interpolate the positions of a transformer."""
        from open_clip.model import resize_pos_embed

        tower = {name: tensor for name, tensor in tensors.items() if name.startswith(TOWER)}
        resize_pos_embed(tower, network)
        return tower


@contextmanager
def _without_warning() -> Iterator[None]:
    """Keep open_clip from telling the root logger that weights are random: they are filled later, if at all."""
    root = logging.getLogger()

    def other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("No pretrained weights loaded")

    root.addFilter(other)
    try:
        yield
    finally:
        root.removeFilter(other)


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError:
        raise UsageError(
            "model.backbone: open_clip/... needs open_clip, which is not installed. Run `pip install "
            "'ltrsys[open_clip]'`."
        ) from None
    return open_clip


def _pretrained_cfg(name: str) -> dict[str, Any]:
    library = _open_clip()
    tags = library.list_pretrained_tags_by_model(name)
    return dict(library.get_pretrained_cfg(name, tags[0])) if tags else {}
