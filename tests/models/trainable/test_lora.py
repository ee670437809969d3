"""Low-rank adapters: where they are, what they change, and what is saved of them."""

import sys

import pytest
import torch
from torch import nn

from ltrsys.errors import UsageError
from ltrsys.models.config import LoRAConfig, ModelConfig
from ltrsys.models.image_size import build_without_memory
from ltrsys.models.network import build_network
from ltrsys.models.stored.weights import load_network, save_network
from ltrsys.models.trainable.freezing import freeze
from ltrsys.models.trainable.lora import add_adapters, check_adapters

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = ModelConfig(
    backbone="timm/vit_tiny_patch16_224", input_size=32, head="cosine", feature_layer=24, lora=LoRAConfig(rank=3)
)
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def adapted():
    """A network whose adapters have learned something."""
    torch.manual_seed(0)
    network = build_network(CONFIG, 5).eval()
    add_adapters(network, CONFIG)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return network


def learned(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def refusal_of(config, image_size=224):
    network = build_without_memory(config)

    def begin():
        add_adapters(network, config)
        check_adapters(network, config, image_size)

    with pytest.raises(UsageError) as refused:
        begin()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_network_begins_as_it_would_without_adapters():
    network = build_network(CONFIG, 5).eval()
    with torch.no_grad():
        before = network(IMAGES)
        add_adapters(network, CONFIG)
        assert torch.equal(network(IMAGES), before)


def test_adapters_follow_from_torch_s_generator():
    networks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        network = build_network(CONFIG, 5)
        add_adapters(network, CONFIG)
        networks.append(network.backbone.blocks[3].attn.proj.lora_A["default"].weight)
    assert torch.equal(networks[0], networks[1])
    assert not torch.equal(networks[0], networks[2])


@pytest.mark.parametrize("trainable", ["all", "norms"])
def test_only_adapters_and_what_comes_after_the_backbone_are_trained(trainable):
    network = build_without_memory(CONFIG)
    norms = {name for name, _ in network.named_parameters() if "norm" in name}
    add_adapters(network, CONFIG)
    check_adapters(network, CONFIG, 32)
    freeze(network, CONFIG, trainable)
    adapters = {name for name in learned(network) if ".attn." in name}
    assert adapters == {
        f"backbone.blocks.{block}.attn.{layer}.lora_{which}.default.weight"
        for block in range(12) for layer in ("qkv", "proj") for which in "AB"
    }  # fmt: skip
    rest = {"backbone.head.linear.weight", "backbone.head.linear.bias", "classifier.weight", "classifier.scale"}
    assert learned(network) - adapters - norms == rest
    assert norms & learned(network) == (norms if trainable == "norms" else set())
    assert adapters == {
        name for name in learned(network) if name in dict(network.named_parameters()) and "lora" in name
    }


def test_drop_path_and_dropout_act_where_adapters_are_trained():
    lora = LoRAConfig(dropout=0.5)
    config = CONFIG.model_copy(update={"drop_path": 0.5, "lora": lora})
    network = build_without_memory(config)
    add_adapters(network, config)
    freeze(network, config, "all")
    block = network.train().backbone.blocks[11]
    assert block.drop_path1.training
    assert block.attn.qkv.lora_dropout["default"].training
    assert not block.mlp.fc1.training


def test_what_is_saved_is_the_plain_network_that_computes_the_same(adapted, tmp_path):
    plain = build_network(CONFIG, 5)
    assert any("lora" in name for name in adapted.state_dict())
    save_network(adapted, tmp_path / "model.safetensors")
    loaded = load_network(CONFIG, 5, tmp_path / "model.safetensors").eval()
    assert loaded.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        adapted_logits, logits = adapted(IMAGES), loaded(IMAGES)
    torch.testing.assert_close(logits, adapted_logits, rtol=1e-4, atol=1e-4)
    begun = build_network(CONFIG, 5).eval()
    begun.load_state_dict(loaded.state_dict())
    begun.backbone.blocks[0].attn.qkv.weight.data.copy_(adapted.backbone.blocks[0].attn.qkv.base_layer.weight)
    with torch.no_grad():
        assert (begun(IMAGES) - adapted_logits).abs().max() > 1e-2  # were one adapter of 24 left out


def test_alpha_over_rank_scales_what_adapters_add(adapted, tmp_path):
    layer = adapted.backbone.blocks[0].attn.qkv
    save_network(adapted, tmp_path / "model.safetensors")
    merged = load_network(CONFIG, 5, tmp_path / "model.safetensors").backbone.blocks[0].attn.qkv.weight
    added = 16 / 3 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(merged, layer.base_layer.weight + added)


@pytest.mark.parametrize("backbone", ["resnet10", "timm/convnext_atto", "open_clip/ViT-B-32", "vit_b_16"])
def test_a_network_without_attention_layers_is_refused(backbone):
    message = refusal_of(ModelConfig(backbone=backbone, lora=LoRAConfig()))
    assert f"linear layers of attention, of which model.backbone={backbone} has none" in message
    assert "model.backbone=timm/vit_base_patch16_224" in message


def test_the_advice_is_good():
    config = ModelConfig(backbone="timm/vit_base_patch16_224", lora=LoRAConfig())
    network = build_without_memory(config)
    add_adapters(network, config)
    check_adapters(network, config, 224)
    assert len(network.adapted_layers) == 24


def test_a_layer_that_is_not_there_is_refused_with_those_that_are():
    config = ModelConfig(backbone="timm/vit_tiny_patch16_224", lora=LoRAConfig(layers=["qkv", "value"]))
    assert refusal_of(config).endswith("has no linear layer `value`. It has qkv, proj.")


def test_a_network_that_never_calls_the_layers_is_refused():
    message = refusal_of(ModelConfig(backbone="timm/beit_base_patch16_224", lora=LoRAConfig()))
    assert "multiplies by the weights of backbone.blocks.0.attn.qkv without calling it" in message


def test_without_peft_what_to_install_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    assert refusal_of(CONFIG).endswith("Run `pip install 'ltrsys[lora]'`.")
