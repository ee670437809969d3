"""Features before the last ReLU, from the same pass as the ordinary ones."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ltrsys.models.backbones.base import build_backbone
from ltrsys.models.config import ModelConfig
from ltrsys.models.last_relu import features_around_last_relu, last_relu, without_last_relu

pytestmark = pytest.mark.usefixtures("one_thread")

RESIDUAL = ["resnet10", "resnet18", "resnext50_32x4d", "wide_resnet50_2"]


def backbone_of(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_backbone(ModelConfig(backbone=name))[0].eval()


def images() -> Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def sum_before_last_relu(network: nn.Module) -> Tensor:
    """Return what the last block adds up, [B, D, 2, 2]: its last normalised convolution and its shortcut."""
    block, parts = network.layer4[-1], {}
    last_norm = getattr(block, "bn3", block.bn2)
    # copies: the block adds and cuts off in place
    handles = [
        block.register_forward_pre_hook(lambda module, inputs: parts.update(shortcut=inputs[0].clone())),
        last_norm.register_forward_hook(lambda module, inputs, output: parts.update(residual=output.clone())),
    ]
    network(images())
    for handle in handles:
        handle.remove()
    shortcut = parts["shortcut"] if block.downsample is None else block.downsample(parts["shortcut"])
    return parts["residual"] + shortcut


@torch.inference_mode()
@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.long
def test_with_the_relu_they_are_the_ordinary_features_to_the_bit(name: str) -> None:
    network = backbone_of(name)
    ordinary, before = network(images()), sum_before_last_relu(network)
    last, no_relu = features_around_last_relu(network, images())
    assert torch.equal(last, ordinary)
    assert torch.equal(functional.adaptive_avg_pool2d(functional.relu(before), 1).flatten(1), ordinary)
    assert torch.equal(functional.adaptive_avg_pool2d(before, 1).flatten(1), no_relu)
    assert (no_relu < 0).any()
    assert (no_relu <= last).all(), "a ReLU makes nothing smaller"


@torch.inference_mode()
def test_the_network_stays_as_it_is() -> None:
    network = backbone_of("resnet10")
    before, ordinary = {name: value.clone() for name, value in network.state_dict().items()}, network(images())
    features_around_last_relu(network, images())
    assert torch.equal(network(images()), ordinary)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not last_relu(network)._forward_pre_hooks


@pytest.mark.parametrize("name", ["vit_b_16", "efficientnet_b0", "densenet121", "shufflenet_v2_x0_5", "vgg11"])
def test_other_networks_have_none(name: str) -> None:
    with torch.device("meta"):
        network, _ = build_backbone(ModelConfig(backbone=name))
    assert last_relu(network) is None


@pytest.mark.parametrize("place", ["avgpool", "fc"])
def test_a_residual_network_in_which_more_follows_than_pooling_has_none(place: str) -> None:
    network = backbone_of("resnet10")
    network.set_submodule(place, nn.Sequential(nn.ReLU(), network.get_submodule(place)))
    assert last_relu(network) is None


@torch.inference_mode()
@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.long
def test_a_network_without_it_gives_the_same_bits(name: str) -> None:
    network = backbone_of(name)
    _, no_relu = features_around_last_relu(network, images())
    assert torch.equal(without_last_relu(network)(images()), no_relu)
    assert not torch.equal(network(images()), no_relu), "the network itself is as it was"
