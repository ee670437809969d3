"""The paper's residual networks: a table over torchvision's ResNet class."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from ltrsys.models.backbones.base import BACKBONES, Backbone


@dataclass(frozen=True)
class ResNetShape:
    """A residual network as arguments of torchvision's class."""

    block: type[BasicBlock] | type[Bottleneck]
    blocks: tuple[int, int, int, int]
    """Blocks in each of the four stages."""
    groups: int = 1
    width_per_group: int = 64


RESNETS = {
    "resnet10": ResNetShape(BasicBlock, (1, 1, 1, 1)),
    "resnet50": ResNetShape(Bottleneck, (3, 4, 6, 3)),
    "resnet101": ResNetShape(Bottleneck, (3, 4, 23, 3)),
    "resnet152": ResNetShape(Bottleneck, (3, 8, 36, 3)),
    "resnext50_32x4d": ResNetShape(Bottleneck, (3, 4, 6, 3), groups=32, width_per_group=4),
    "resnext101_32x4d": ResNetShape(Bottleneck, (3, 4, 23, 3), groups=32, width_per_group=4),
    "resnext152_32x4d": ResNetShape(Bottleneck, (3, 8, 36, 3), groups=32, width_per_group=4),
}
"""torchvision itself names neither ResNet-10 nor ResNeXt-101/152 of width 32x4d."""


class _ResNet(Backbone):
    source = "He et al., 2016; Xie et al., 2017; Kang et al., 2020, section 5.1"
    shape: ClassVar[ResNetShape]

    @classmethod
    def build(cls) -> nn.Module:
        """Build the network of this shape."""
        shape = cls.shape
        return ResNet(shape.block, list(shape.blocks), groups=shape.groups, width_per_group=shape.width_per_group)


for _place, (_name, _shape) in enumerate(RESNETS.items()):
    _layers = 2 + sum(_shape.blocks) * (2 if _shape.block is BasicBlock else 3)
    _family = "ResNet" if _shape.groups == 1 else "ResNeXt 32x4d"
    BACKBONES.register(
        type(
            _name,
            (_ResNet,),
            {
                "__doc__": f"{_family} of {_layers} layers.",
                "__module__": __name__,
                "name": _name,
                "summary": f"{_family} of {_layers} layers",
                "order": _place,
                "shape": _shape,
            },
        )
    )
