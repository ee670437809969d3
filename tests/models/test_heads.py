"""The heads: their formulas, and their way through the files of a run."""

import math

import pytest
import torch
from torch import nn

from ltrsys.errors import DataError
from ltrsys.models.config import ModelConfig
from ltrsys.models.heads import CosineHead, OLTRCosineHead, build_head
from ltrsys.models.network import Network, build_network
from ltrsys.models.stored.weights import load_backbone, load_network, save_network

FEATURES = torch.tensor([[3.0, 4.0], [0.0, -2.0]])
WEIGHTS = torch.tensor([[5.0, 0.0], [0.0, 0.1], [-1.0, 1.0]])


def with_weights(head):
    with torch.no_grad():
        head.weight.copy_(WEIGHTS)
    return head


def test_a_cosine_head_is_the_scaled_cosine():
    head = with_weights(CosineHead(2, 3))
    diagonal = math.sqrt(0.5)
    expected = 10 * torch.tensor([[0.6, 0.8, 0.2 * diagonal], [0.0, -1.0, -diagonal]])
    torch.testing.assert_close(head(FEATURES).detach(), expected)
    torch.testing.assert_close(head(100 * FEATURES), head(FEATURES))


def test_oltr_s_head_grows_with_the_length_of_the_feature_up_to_16():
    head = with_weights(OLTRCosineHead(2, 3))
    diagonal = math.sqrt(0.5)
    cosines = torch.tensor([[0.6, 0.8, 0.2 * diagonal], [0.0, -1.0, -diagonal]])
    torch.testing.assert_close(head(FEATURES).detach(), 16 * torch.tensor([[5 / 6], [2 / 3]]) * cosines)
    torch.testing.assert_close(head(1e6 * FEATURES).detach(), 16 * cosines, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["cosine", "oltr_cosine"])
def test_the_gradients_are_those_of_the_values(name):
    head = build_head(name, 4, 3).double()
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *parameters: head(x), (features, *head.parameters()))
    head(torch.zeros(2, 4, dtype=torch.float64)).sum().backward()
    assert head.weight.grad.isfinite().all()


def test_a_fixed_scale_is_not_learned():
    head = CosineHead(2, 3)
    assert head.scale.requires_grad
    head.fix_scale(30.0)
    assert head.scale.tolist() == [30.0]
    assert not head.scale.requires_grad


def test_the_linear_head_has_the_random_numbers_of_a_linear_layer():
    torch.manual_seed(3)
    head = build_network(ModelConfig(backbone="resnet10", stem="small"), 5).classifier
    torch.manual_seed(3)
    network = Network(nn.Identity(), 512, 5)
    assert isinstance(head, nn.Linear)
    assert isinstance(network.classifier, nn.Linear)
    torch.manual_seed(3)
    assert torch.equal(network.classifier.weight, nn.Linear(512, 5).weight)


@pytest.mark.parametrize("name", ["linear", "cosine", "oltr_cosine"])
def test_a_network_comes_back_from_disk_with_its_head(name, tmp_path):
    config = ModelConfig(backbone="resnet10", stem="small", head=name)
    network, path = build_network(config, 5).eval(), tmp_path / "model.safetensors"
    save_network(network, path)
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(load_network(config, 5, path).eval()(images), network(images))
    load_backbone(build_network(ModelConfig(backbone="resnet10", stem="small"), 3), path)


def test_another_head_than_the_file_s_is_refused_by_the_name_of_the_tensor(tmp_path):
    path = tmp_path / "model.safetensors"
    save_network(build_network(ModelConfig(backbone="resnet10", stem="small"), 5), path)
    with pytest.raises(DataError, match=r"tensor `classifier\.scale` is missing"):
        load_network(ModelConfig(backbone="resnet10", stem="small", head="cosine"), 5, path)
