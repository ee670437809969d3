"""Which parts of a network are frozen, and how they then behave."""

import copy

import pytest
import torch
from torch import nn

from ltrsys.errors import UsageError
from ltrsys.models.config import ModelConfig
from ltrsys.models.heads import CosineHead
from ltrsys.models.image_size import build_without_memory
from ltrsys.models.network import build_network
from ltrsys.models.trainable.freezing import freeze

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = ModelConfig(backbone="resnet10", stem="small")


def learned(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("backbone", "block"), [("resnet10", 0), ("resnext50_32x4d", 2), ("resnet18", 1), ("wide_resnet50_2", 2)]
)
def test_the_last_block_is_the_last_of_the_last_stage(backbone, block):
    config = ModelConfig(backbone=backbone)
    network = build_without_memory(config)
    own = {name for name, _ in network.named_parameters()}
    freeze(network, config, "last_block")
    assert learned(network) == {name for name in own if name.startswith((f"backbone.layer4.{block}.", "classifier."))}


def test_what_the_config_adds_after_the_last_block_is_trained_with_it():
    config = ModelConfig(backbone="resnet10", attention="modulated", feature_layer=24)
    network = build_without_memory(config)
    freeze(network, config, "last_block")
    after = ("backbone.layer4.", "backbone.avgpool.attention.", "backbone.fc.", "classifier.")
    assert learned(network) == {name for name, _ in network.named_parameters() if name.startswith(after)}


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "densenet121", "vit_b_16"])
def test_a_network_without_residual_blocks_is_refused_by_name(backbone):
    config = ModelConfig(backbone=backbone)
    with pytest.raises(UsageError, match=rf"train\.trainable=last_block .* model\.backbone={backbone} is not\. Give"):
        freeze(build_without_memory(config), config, "last_block")


def test_everything_is_trained_unless_told_otherwise():
    network = build_network(CONFIG, 3)
    freeze(network, CONFIG, "all")
    assert learned(network) == {name for name, _ in network.named_parameters()}
    assert all(module.training for module in network.train().modules())
    assert dict(network.trained_buffers()).keys() == dict(network.named_buffers()).keys()


def test_a_frozen_backbone_builds_no_graph_and_is_as_in_evaluation_also_in_training():
    network, images = build_network(CONFIG, 3), torch.randn(4, 3, 8, 8)
    network.train()(images)  # running statistics that are not those of a network that has just been built
    evaluated = network.eval().backbone(images).detach()
    freeze(network.train(), CONFIG, "classifier")
    assert learned(network) == {"classifier.weight", "classifier.bias"}
    assert not list(network.trained_buffers())
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    for _ in range(2):
        network.train()
        assert network.training
        assert network.classifier.training
        features = network.backbone(images)
        assert features.grad_fn is None
        assert torch.equal(features, evaluated)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert not network.eval().classifier.training


def test_batch_norm_of_the_last_block_is_trained_and_no_other():
    network = build_network(CONFIG, 3)
    freeze(network, CONFIG, "last_block")
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()(torch.randn(4, 3, 8, 8)).sum().backward()
    changed = {name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])}
    assert changed == {name for name in before if name.startswith("backbone.layer4.0.")}
    assert changed == dict(network.trained_buffers()).keys()
    assert {name for name, one in network.named_parameters() if one.grad is not None} == learned(network)


def test_a_copy_knows_what_is_trained_also_where_it_takes_no_gradients():
    network = build_network(CONFIG, 3)
    freeze(network, CONFIG, "last_block")
    copied = copy.deepcopy(network).requires_grad_(False)
    assert dict(copied.trained_buffers()).keys() == dict(network.trained_buffers()).keys()


def test_frozen_parts_stay_frozen_where_batch_norm_is_synchronised():
    network = build_network(CONFIG, 3)
    freeze(network, CONFIG, "last_block")
    network = nn.SyncBatchNorm.convert_sync_batchnorm(network).train()
    assert {name for name, one in network.named_modules() if isinstance(one, nn.SyncBatchNorm) and one.training} == {
        name for name, one in network.named_modules()
        if isinstance(one, nn.SyncBatchNorm) and name.startswith("backbone.layer4.0.")
    }  # fmt: skip


def test_a_scale_that_the_loss_fixes_is_not_learned_for_being_in_a_part_that_is_trained():
    config = CONFIG.model_copy(update={"head": "cosine"})
    network = build_network(config, 3)
    assert isinstance(network.classifier, CosineHead)
    network.classifier.fix_scale(30)
    freeze(network, config, "classifier")
    assert learned(network) == {"classifier.weight"}


@pytest.mark.parametrize(
    ("backbone", "stages", "frozen", "trained"),
    [
        ("resnet10", 1, ("conv1.", "bn1.", "layer1."), ("layer2.", "layer3.", "layer4.")),
        ("resnet10", 4, ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4."), ()),
        ("timm/resnet18", 2, ("conv1.", "bn1.", "layer1.", "layer2."), ("layer3.", "layer4.")),
        ("timm/convnext_atto", 3, ("stem.", "stages.0.", "stages.1.", "stages.2."), ("stages.3.", "head.")),
        (
            "timm/vit_tiny_patch16_224",
            2,
            ("cls_token", "pos_embed", "patch_embed.", "blocks.0.", "blocks.1."),
            ("norm.", *(f"blocks.{block}." for block in range(2, 12))),
        ),
    ],
)
def test_the_stem_and_the_first_stages_are_frozen(backbone, stages, frozen, trained):
    config = ModelConfig(backbone=backbone)
    network = build_without_memory(config)
    freeze(network, config, "all", freeze_stages=stages)
    own = {name.removeprefix("backbone.") for name, _ in network.named_parameters()} - {"classifier.weight"}
    own.remove("classifier.bias")
    learning = {name.removeprefix("backbone.") for name in learned(network)}
    assert {name for name in own if name.startswith(trained)} == own & learning
    assert {name for name in own if name.startswith(frozen)} == own - learning
    assert learning >= {"classifier.weight", "classifier.bias"}


def test_batch_norm_of_frozen_stages_is_as_in_evaluation():
    network = build_network(CONFIG, 3)
    freeze(network, CONFIG, "all", freeze_stages=3)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()(torch.randn(4, 3, 8, 8)).sum().backward()
    changed = {name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])}
    assert changed == {name for name in before if name.startswith("backbone.layer4.")}
    assert changed == dict(network.trained_buffers()).keys()


@pytest.mark.parametrize(
    ("backbone", "stages", "message"),
    [
        (
            "resnet10",
            5,
            r"freeze_stages=5: model\.backbone=resnet10 has 4 stages\. Give train\.freeze_stages=4 or less",
        ),
        ("timm/convnext_atto", 9, r"timm/convnext_atto has 5 stages\. Give train\.freeze_stages=5 or less"),
        (
            "mobilenet_v2",
            1,
            r"and model\.backbone=mobilenet_v2 is none\. Give timm/NAME, or train\.trainable=classifier",
        ),
    ],
)
def test_stages_that_are_not_there_are_refused(backbone, stages, message):
    config = ModelConfig(backbone=backbone)
    with pytest.raises(UsageError, match=message):
        freeze(build_without_memory(config), config, "all", freeze_stages=stages)


@pytest.mark.parametrize("backbone", ["resnet10", "timm/vit_tiny_patch16_224", "timm/convnext_atto"])
def test_of_norms_nothing_but_scales_shifts_and_the_classifier_is_trained(backbone):
    config = ModelConfig(backbone=backbone)
    network = build_without_memory(config)
    freeze(network, config, "norms")
    assert not any("mlp" in name or "attn" in name or "conv_dw" in name for name in learned(network))
    assert all(parameter.dim() == 1 for name, parameter in network.named_parameters()
               if parameter.requires_grad and name != "classifier.weight")  # fmt: skip
    assert len(learned(network)) > 20


def test_a_network_without_norms_is_refused():
    config = ModelConfig(backbone="alexnet")
    with pytest.raises(UsageError, match=r"of which model\.backbone=alexnet has none\. Give train\.trainable=all or"):
        freeze(build_without_memory(config), config, "norms")


def test_what_has_no_parameters_goes_by_what_holds_it():
    config = ModelConfig(backbone="timm/vit_tiny_patch16_224", input_size=32)
    network = build_without_memory(config)
    freeze(network, config, "all", freeze_stages=2)
    blocks = network.train().backbone.blocks
    assert [block.mlp.drop1.training for block in blocks] == [False] * 2 + [True] * 10
    assert not any(module.training for module in network.eval().modules())


def test_tables_that_a_network_makes_anew_are_no_state_of_a_rank():
    network = build_without_memory(ModelConfig(backbone="timm/swin_tiny_patch4_window7_224"))
    assert len(dict(network.named_buffers())) > 10
    assert not list(network.trained_buffers())
