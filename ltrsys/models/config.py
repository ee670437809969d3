"""The section `model`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ltrsys.section import Section

HeadName = Literal["linear", "cosine", "oltr_cosine"]
Trainable = Literal["all", "last_block", "classifier"]


class ModelConfig(Section):
    """The network."""

    backbone: str = "resnext50_32x4d"
    """resnet10/50/101/152, resnext50/101/152_32x4d, or any classification model of torchvision by name."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """`small` is a 3x3, stride-1 stem without pooling, for images of about 32 pixels."""
    head: HeadName = "linear"
    """What makes logits of features: W x + b; s·cos(w, x) with a learned s; or OLTR's 16·|x|/(1+|x|)·cos(w, x)."""
    weights: Path | None = Field(default=None, strict=False)
    """A safetensors file of backbone weights to start from (as `model.safetensors` of a run)."""
