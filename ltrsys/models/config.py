"""The section `model`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ltrsys.section import Count, Positive, Section

HeadName = Literal["linear", "cosine", "oltr_cosine", "oltr_memory", "none"]
ELSEWHERE = "elsewhere"
"""The `model.backbone` of features that were made elsewhere."""
Precision = Literal["float32", "bf16"]
Views = Literal["one", "flip", "five"]
Trainable = Literal["all", "last_block", "norms", "classifier"]


class LoRAConfig(Section):
    """Low-rank adapters of the attention layers of a vision transformer of timm (Hu et al., 2022)."""

    rank: Count = 8
    alpha: Positive = 16.0
    """What an adapter adds is multiplied by alpha/rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How often training sets an input of an adapter to 0."""
    layers: Annotated[list[str], Field(min_length=1)] = Field(default=["qkv", "proj"])
    """Names of the linear layers of each attention that are adapted."""


class ModelConfig(Section):
    """The network."""

    backbone: str = "resnext50_32x4d"
    """resnet10/50/101/152, resnext50/101/152_32x4d, or any classification model of torchvision by name; timm/NAME for
    every one of timm, open_clip/NAME for the image tower of one of open_clip."""
    input_size: Count | None = None
    """Side of the images, in pixels, that a network of a fixed size is built for, such as a vision transformer;
    published positions are then interpolated. The size that the network was published with if not given."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """`small` is a 3x3, stride-1 stem without pooling, for images of about 32 pixels."""
    attention: Literal["none", "modulated"] = "none"
    """`modulated` is OLTR's attention over the places of the last feature map of a residual network."""
    attention_side: Count = 7
    """Side of that map, which attention is built for: 7 for images of 224 pixels."""
    feature_layer: Count | None = None
    """Size of a linear layer with a ReLU between the pooled features and the head, which OLTR has (512); none if not
    given."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How often training leaves out the last residual branch of a network of timm, for each image; the ones before it
    are left out less often, in even steps from the first, which stays. 0 is what the library builds by itself."""
    lora: LoRAConfig | None = None
    """Trains low-rank adapters and the classifier, the backbone being frozen. The model that is saved is the plain
    network, into whose weights the adapters have been added."""
    head: HeadName = "linear"
    """What makes logits of features: W x + b; s·cos(w, x) with a learned s; OLTR's 16·|x|/(1+|x|)·cos(w, x); or the
    same of features that OLTR's memory of the classes has added to. `none` is for a run without a first stage, whose
    network ends in its features (`ltrsys bank`)."""
    weights: Path | None = Field(default=None, strict=False)
    """A safetensors file of backbone weights to start from (as `model.safetensors` of a run)."""
    pretrained: bool | str = False
    """Weights of the backbone that others have trained: true for those that are published for it, a file of them, or
    `hf-hub:OWNER/NAME`."""
    pretrained_by_order: bool = False
    """Whether the file has other names, but the same shapes in the same order."""


def size_of_views(views: Views, *, image_size: int, resize: int) -> int:
    """Return the side of the square that an image is cropped to before its views are made, in pixels."""
    return resize if views == "five" else image_size
