import pytest
import torch

from ltrsys.errors import UsageError
from ltrsys.models.backbones.base import build_backbone
from ltrsys.models.backbones.libraries.base import LIBRARIES, library_of
from ltrsys.models.config import ModelConfig
from ltrsys.models.image_size import build_without_memory, check_image_size

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("name", "feature_dim"),
    [
        ("timm/resnet18", 512), ("timm/tf_efficientnet_lite0", 1280), ("timm/mobilenetv3_small_050", 1024),
        ("timm/convnext_atto", 320), ("timm/vgg11", 4096), ("timm/deit_tiny_distilled_patch16_224", 192),
        ("timm/vit_tiny_patch16_224.augreg_in21k", 192), ("timm/swin_tiny_patch4_window7_224", 768),
        ("open_clip/ViT-B-32", 512), ("open_clip/RN50", 1024), ("torchvision/resnet18", 512),
    ],
)  # fmt: skip
@pytest.mark.long
def test_networks_of_libraries_end_in_pooled_features(name, feature_dim):
    network = build_without_memory(ModelConfig(backbone=name), 7).eval()
    images = torch.zeros(2, 3, 224, 224, device="meta")
    assert network.feature_dim == feature_dim
    assert network.backbone(images).shape == (2, feature_dim)
    assert network(images).shape == (2, 7)


def test_a_transformer_is_built_for_the_size_that_it_is_given():
    config = ModelConfig(backbone="timm/vit_tiny_patch16_224", input_size=64)
    assert build_without_memory(config).eval()(torch.zeros(1, 3, 64, 64, device="meta")).shape == (1, 2)
    check_image_size(config, 64)


def test_a_transformer_refuses_images_that_it_is_not_built_for():
    with pytest.raises(UsageError, match=r"model\.backbone=timm/vit_tiny_patch16_224 does not take images of"):
        check_image_size(ModelConfig(backbone="timm/vit_tiny_patch16_224"), 100)


def test_stem_and_feature_layer_fit_a_residual_network_of_timm():
    network, features = build_backbone(ModelConfig(backbone="timm/resnet18", stem="small", feature_layer=32))
    assert features == 32
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 32)
    assert network.conv1.stride == (1, 1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm/tf_efficientnet_lite", "Nearest: timm/tf_efficientnet_lite"),
        ("open_clip/ViT-B-15", "Nearest: open_clip/ViT-B-16"),
        ("timmm/resnet18", "Before the / stands a library: torchvision, timm, open_clip."),
        ("resnet26d", "timm/resnet26d"),
    ],
)
def test_a_name_that_no_library_knows_names_the_nearest(name, words):
    with pytest.raises(UsageError) as refused:
        build_backbone(ModelConfig(backbone=name))
    assert words in str(refused.value)


def test_what_a_network_was_made_for_is_what_its_library_says():
    library, name = library_of("timm/tf_efficientnet_lite0")
    made_for = library.input_of(name)
    assert (made_for.image_size, made_for.resize, made_for.mean, made_for.interpolation) == (
        224, 256, (0.5, 0.5, 0.5), "bicubic",
    )  # fmt: skip
    library, name = library_of("open_clip/ViT-B-16")
    assert library.input_of(name).mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert library_of("resnet50") is None
    assert LIBRARIES.get("torchvision").input_of("resnet50").resize == 232


def test_where_weights_are_published_is_what_the_library_says():
    assert LIBRARIES.get("timm").published("resnet18").repository == "timm/resnet18.a1_in1k"
    assert LIBRARIES.get("torchvision").published("resnet18").url.startswith("https://download.pytorch.org/")
    assert LIBRARIES.get("open_clip").published("ViT-B-16").repository.startswith("timm/vit_base_patch16_clip_224")


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/efficientnet_b0", "timm/convnext_atto"])
def test_residual_branches_are_left_out_in_training_alone(name):
    torch.manual_seed(0)
    config = ModelConfig(backbone=name, input_size=32, drop_path=0.9)
    network, images = build_backbone(config)[0].eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images), network(images))
        network.train()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()  # which sees nothing of the batch
        assert not torch.equal(network(images), network(images))


def test_drop_path_changes_no_name_of_a_tensor():
    plain, dropping = (ModelConfig(backbone="timm/vit_tiny_patch16_224", drop_path=rate) for rate in (0.0, 0.1))
    networks = (build_without_memory(config) for config in (plain, dropping))
    first, second = ({name: one.shape for name, one in network.state_dict().items()} for network in networks)
    assert first == second


@pytest.mark.parametrize("name", ["resnet10", "resnet50", "torchvision/vit_b_16", "timm/vgg11", "open_clip/ViT-B-32"])
def test_a_network_whose_drop_path_cannot_be_set_is_refused(name):
    with pytest.raises(UsageError, match=r"^model\.drop_path=0\.1: .* Give model\.drop_path=0, or") as refused:
        build_without_memory(ModelConfig(backbone=name, drop_path=0.1))
    assert ("timm/vgg11" in str(refused.value)) == (name == "timm/vgg11")
