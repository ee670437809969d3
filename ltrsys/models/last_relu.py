"""The features of a residual network before its last ReLU (Kang et al., 2020, appendix B.7).

B images, D features.
"""

import copy

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


def last_relu(network: nn.Module) -> nn.Module | None:
    """Return the module of the last ReLU, if average pooling alone follows it; None in any other network.

    It is that of the last block of torchvision's ResNet, which ResNeXt and Wide ResNet are too. A block calls one
    module for all of its ReLUs: the last call is that of the sum with the shortcut.

    Args:
        network: Without its head.
    """
    if not (
        isinstance(network, ResNet)
        and isinstance(network.avgpool, nn.AdaptiveAvgPool2d)
        and isinstance(network.fc, nn.Identity)
    ):
        return None
    block = list(network.layer4)[-1]
    return block.relu if isinstance(block, BasicBlock | Bottleneck) else None


def features_around_last_relu(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features of images, [B, 3, H, W], as ever and without the last ReLU: both [B, D], from one pass.

    The first are those of `network(images)` to the bit. The second are the same average over the places, of what goes
    into the last ReLU.

    Args:
        network: A residual network without its head, for which `last_relu` returns a module.
        images: In the layout and on the device of the network.
    """
    relu, average = last_relu(network), network.get_submodule("avgpool")
    assert relu is not None
    pooled: list[Tensor] = []

    def pool(module: nn.Module, inputs: tuple[Tensor]) -> None:
        # at once, since the ReLU works in place; earlier calls of the block are pooled too, at next to no cost
        pooled.append(torch.flatten(average(inputs[0]), 1))

    with relu.register_forward_pre_hook(pool):
        features_BD: Tensor = network(images)
    return features_BD, pooled[-1]


def without_last_relu(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose features are those before the last ReLU, to the bit.

    Unlike `features_around_last_relu`, which listens to a network while it runs, it can be traced.

    Args:
        network: A residual network without its head, for which `last_relu` returns a module.
    """
    assert last_relu(network) is not None
    changed = copy.deepcopy(network)
    stage = changed.get_submodule("layer4")
    assert isinstance(stage, nn.Sequential)
    last = stage[-1]
    assert isinstance(last, BasicBlock | Bottleneck)
    stage[-1] = _OpenBlock(last)
    return changed


class _OpenBlock(nn.Module):
    """A block of torchvision's ResNet without the ReLU of its sum."""

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        self.block = block

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return what would go into the last ReLU."""
        block = self.block
        inner = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(map_BCHW)))))
        if isinstance(block, Bottleneck):
            inner = block.bn3(block.conv3(block.relu(inner)))
        shortcut = map_BCHW if block.downsample is None else block.downsample(map_BCHW)
        opened: Tensor = inner + shortcut
        return opened
