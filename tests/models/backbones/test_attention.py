"""Modulated attention and the feature layer: their formulas, and what they leave as it was."""

import numpy as np
import pytest
import torch

from ltrsys.errors import UsageError
from ltrsys.models.backbones.attention import ModulatedAttention
from ltrsys.models.config import ModelConfig
from ltrsys.models.image_size import check_image_size
from ltrsys.models.network import build_network
from ltrsys.models.stored.weights import load_backbone, load_network, save_network

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = {"backbone": "resnet10", "stem": "small"}
"""Of images of 16 pixels its last map has 2 x 2 places."""
OLTR = {**PLAIN, "attention": "modulated", "attention_side": 2, "feature_layer": 24}


def build(seed=0, num_classes=5, **settings):
    torch.manual_seed(seed)
    return build_network(ModelConfig(**settings), num_classes).eval()


def awake(attention):
    """Weights under which every part counts."""
    with torch.no_grad():
        attention.output.weight.normal_()
        for layer in (attention.query, attention.key, attention.value):
            layer.bias.normal_()
    return attention


def softmax(rows):
    powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def by_place(weights, map_CHW):
    """Apply a 1x1 convolution place after place, from above, and from the left: [out, P]."""
    columns = [weights @ map_CHW[:, row, column] for row in range(3) for column in range(3)]
    return np.stack(columns, axis=1)


def test_attention_is_the_formula_place_by_place():
    torch.manual_seed(1)
    attention = awake(ModulatedAttention(6, 3)).double()
    maps = torch.randn(4, 6, 3, 3, dtype=torch.float64)
    weights = {name: tensor.numpy() for name, tensor in attention.state_dict().items()}
    for map_CHW, found in zip(maps.numpy(), attention(maps).detach().numpy(), strict=True):
        query, key, value = (
            by_place(weights[f"{name}.weight"][:, :, 0, 0], map_CHW) + weights[f"{name}.bias"][:, None]
            for name in ("query", "key", "value")
        )
        gathered = np.zeros((3, 9))
        for place in range(9):
            shares = softmax(np.array([query[:, place] @ key[:, other] for other in range(9)]))
            gathered[:, place] = sum(shares[other] * value[:, other] for other in range(9))
        of_places = softmax(weights["places.weight"] @ map_CHW.reshape(-1) + weights["places.bias"])
        expected = map_CHW + (of_places * (weights["output.weight"][:, :, 0, 0] @ gathered)).reshape(6, 3, 3)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_its_gradients_are_those_of_its_values():
    torch.manual_seed(2)
    attention = awake(ModulatedAttention(4, 2)).double()
    maps = torch.randn(2, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *parameters: attention(x), (maps, *attention.parameters()))


def test_it_begins_as_the_identity_and_can_leave_it():
    plain, attended = build(**PLAIN), build(**PLAIN, attention="modulated", attention_side=2)
    images = torch.randn(3, 3, 16, 16)
    assert torch.equal(attended.backbone(images), plain.backbone(images))
    attended(images).square().sum().backward()
    assert attended.backbone.avgpool.attention.output.weight.grad.abs().max() > 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_of_the_map_in_memory_does_not_matter(layout):
    attention = awake(ModulatedAttention(6, 3))
    maps = torch.randn(2, 6, 3, 3)
    torch.testing.assert_close(attention(maps.contiguous(memory_format=layout)), attention(maps))


def test_under_autocast_it_errs_as_products_of_bfloat16_do():
    attention = awake(ModulatedAttention(6, 3))
    maps = torch.randn(2, 6, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attention(maps)
    torch.testing.assert_close(found.float(), attention(maps), rtol=5e-2, atol=5e-2)


def test_a_feature_layer_is_a_linear_layer_with_a_relu():
    plain, layered = build(**PLAIN), build(**PLAIN, feature_layer=24)
    images = torch.randn(3, 3, 16, 16)
    layer = layered.backbone.fc.linear
    expected = (plain.backbone(images) @ layer.weight.T + layer.bias).clamp(min=0)
    torch.testing.assert_close(layered.backbone(images), expected)
    assert layered.feature_dim == 24
    assert layered.classifier.weight.shape == (5, 24)


def test_what_is_added_leaves_names_and_random_numbers_of_the_rest():
    plain, added = build(**PLAIN).backbone.state_dict(), build(**OLTR).backbone.state_dict()
    assert all(torch.equal(added[name], plain[name]) for name in plain)
    more = {name.rpartition(".")[0] for name in added.keys() - plain.keys()}
    attention = {f"avgpool.attention.{part}" for part in ("query", "key", "value", "output", "places")}
    assert more == attention | {"fc.linear"}


def test_a_network_with_both_comes_back_from_disk(tmp_path):
    network, path = build(**OLTR), tmp_path / "model.safetensors"
    awake(network.backbone.avgpool.attention)
    save_network(network, path)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(load_network(ModelConfig(**OLTR), 5, path).eval()(images), network(images))


def test_a_backbone_s_file_without_them_leaves_them_as_they_began(tmp_path):
    import torchvision

    theirs = torchvision.models.resnet18(num_classes=9)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    network = build(backbone="resnet18", attention="modulated", feature_layer=24)
    before = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    load_backbone(network, tmp_path / "theirs.pth")
    for name, tensor in network.backbone.state_dict().items():
        added = name.startswith(("avgpool.", "fc."))
        assert torch.equal(tensor, before[name] if added else theirs.state_dict()[name]), name


@pytest.mark.long
def test_a_network_that_is_no_residual_one_is_refused():
    with pytest.raises(UsageError, match=r"model\.backbone=vgg11 is none\. Use model\.attention=none") as refused:
        build(backbone="vgg11", attention="modulated")
    assert "\n" not in str(refused.value)


def test_images_of_another_size_are_refused_by_the_side_to_give():
    check_image_size(ModelConfig(**OLTR), 16)
    message = r"model\.attention_side=2: .* is 3 x 3\. Give model\.attention_side=3, or images of another size\."
    with pytest.raises(UsageError, match=message) as refused:
        check_image_size(ModelConfig(**OLTR), 20)
    assert "\n" not in str(refused.value)
    check_image_size(ModelConfig(backbone="resnext152_32x4d", attention="modulated"), 224)
