from pathlib import Path

import pytest
import torch
import torchvision

from ltrsys.errors import UsageError
from ltrsys.models.backbones.base import BACKBONES, build_backbone
from ltrsys.models.backbones.resnet import RESNETS
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.registry import load_plugin
from tests.models.cost import count_multiply_adds, count_parameters

pytestmark = pytest.mark.usefixtures("one_thread", "plugins_forgotten")


def build_meta(backbone: str, num_classes: int = 7, stem: str = "imagenet"):
    with torch.device("meta"):
        return build_network(ModelConfig(backbone=backbone, stem=stem), num_classes)


def test_resnext152_costs_what_the_paper_s_did():
    network = build_meta("resnext152_32x4d", num_classes=8142)
    assert count_parameters(network) == 74_585_358  # 74.6 M
    assert count_multiply_adds(network, 224) == pytest.approx(11.72e9, rel=1e-3)


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnet152", "resnext50_32x4d"])
def test_the_table_s_shapes_are_torchvision_s_own(name):
    ours = build_meta(name, num_classes=1000)
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name, weights=None)
    expected = {key: value.shape for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.backbone.state_dict().items()} == expected
    assert count_parameters(ours) == count_parameters(theirs)


@pytest.mark.parametrize(
    ("name", "feature_dim"),
    [
        ("resnet18", 512), ("densenet121", 1024), ("vgg11_bn", 4096), ("efficientnet_b0", 1280), ("vit_b_16", 768),
        ("swin_t", 768), ("convnext_tiny", 768), ("mobilenet_v3_small", 1024), ("googlenet", 1024), ("alexnet", 4096),
    ],
)  # fmt: skip
@pytest.mark.long
def test_the_head_of_any_torchvision_network_is_replaced(name, feature_dim):
    network = build_meta(name)
    images = torch.zeros(2, 3, 224, 224, device="meta")
    assert network.feature_dim == feature_dim
    assert network.backbone(images).shape == (2, feature_dim)
    assert network(images).shape == (2, 7)


@pytest.mark.parametrize("name", list(RESNETS))
def test_the_small_stem_keeps_the_resolution_of_small_images(name):
    network = build_meta(name, stem="small").eval()
    seen = []
    network.backbone.layer1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    network(torch.zeros(1, 3, 32, 32, device="meta"))
    assert seen == [(1, 64, 32, 32)]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(backbone="resnxt50_32x4d"), "Nearest: resnext50_32x4d"),
        (ModelConfig(backbone="zzzzzzzz"), "Known: resnet10"),
        (ModelConfig(backbone="squeezenet1_0"), "does not end in a linear layer"),
        (ModelConfig(backbone="vit_b_16", stem="small"), "Use `stem: imagenet`"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_with_a_way_out(config, message):
    with pytest.raises(UsageError, match=message):
        build_network(config, 3)


def test_the_features_of_lenet_2d_are_two_and_fill_the_plane():
    network = build_network(ModelConfig(backbone="lenet_2d"), 3)
    assert network.feature_dim == 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for size in (8, 16, 33):
            features_BD = network.backbone(torch.randn(64, 3, size, size))
            assert features_BD.shape == (64, 2)
            # centred, since a bias may move all of them to one side
            signs = {tuple(row) for row in (features_BD > features_BD.mean(dim=0)).tolist()}
            assert len(signs) == 4, "a ReLU would leave a quarter of the plane"
    assert isinstance(network.backbone[-2], torch.nn.Linear), "no ReLU follows the layer that makes the features"


def test_a_backbone_of_one_s_own_is_one_file(tmp_path: Path):
    (tmp_path / "pixels.py").write_text(
        "from torch import nn\n"
        "from ltrsys.models.backbones.base import BACKBONES, Backbone\n"
        "@BACKBONES.register\n"
        "class Pixels(Backbone):\n"
        "    name, summary = 'pixels', 'the mean colour'\n"
        "    @classmethod\n"
        "    def build(cls):\n"
        "        return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 1000))\n"
    )
    load_plugin(str(tmp_path / "pixels.py"))
    network, features = build_backbone(ModelConfig(backbone="pixels"))
    assert features == 12
    assert network(torch.zeros(5, 3, 8, 8)).shape == (5, 12)
    assert BACKBONES.names()[-1] == "pixels"
    with pytest.raises(UsageError, match=r"no network is called 'pixel'\. Nearest: pixels"):
        build_backbone(ModelConfig(backbone="pixel"))
