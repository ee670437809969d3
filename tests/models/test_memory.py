"""OLTR's memory: its formula, who learns what of it, and its way through the files of a run."""

import numpy as np
import pytest
import torch

from ltrsys.models.config import ModelConfig
from ltrsys.models.heads import OLTRMemoryHead
from ltrsys.models.memory import _shares
from ltrsys.models.network import build_network
from ltrsys.models.stored.weights import load_network, save_network

pytestmark = pytest.mark.usefixtures("one_thread")


def filled(seed=0, dtype=torch.float64):
    """A head of 4 features and 3 classes, the centroids being random too."""
    torch.manual_seed(seed)
    head = OLTRMemoryHead(4, 3)
    with torch.no_grad():
        head.centroids.normal_()
    return head.to(dtype)


def logits_by_hand(head, features):
    weight = {name: tensor.numpy() for name, tensor in head.state_dict().items()}
    rows = []
    for x in features:
        distance = min(np.sqrt(((x - centroid) ** 2).sum()) for centroid in weight["centroids"])
        powers = np.exp(weight["hallucinator.weight"] @ x + weight["hallucinator.bias"])
        remembered = (powers / powers.sum()) @ weight["centroids"]
        selector = np.tanh(weight["selector.weight"] @ x + weight["selector.bias"])
        added = 10 / distance * (x + selector * remembered)
        length = np.linalg.norm(added)
        cosines = [row @ added / (np.linalg.norm(row) * length) for row in weight["weight"]]
        rows.append([16 * length / (1 + length) * cosine for cosine in cosines])
    return np.array(rows)


def test_the_logits_are_the_formula():
    head, features = filled(), torch.randn(7, 4, dtype=torch.float64)
    np.testing.assert_allclose(
        head(features).detach().numpy(), logits_by_hand(head, features.numpy()), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_large_logits_give_no_denormal_shares_and_the_same_sums(dtype):
    logits = torch.tensor([[500.0, 499, 440.5, 300, -500], [0, -1, -2, -3, -90]], dtype=dtype, requires_grad=True)
    shares = _shares(logits)
    plain = logits.detach().double().softmax(dim=1)
    assert shares.dtype == dtype
    if dtype != torch.float16:  # which has no such small numbers at all, and rounds them to 0
        assert shares.min() > 1e-27
    torch.testing.assert_close(shares.double(), plain, rtol=torch.finfo(dtype).eps, atol=1e-25)
    torch.testing.assert_close(shares.float() @ torch.ones(5), torch.ones(2), rtol=torch.finfo(dtype).eps, atol=0)
    (gradient,) = torch.autograd.grad(shares[:, 0].sum(), logits)
    assert torch.isfinite(gradient).all()


def test_the_gradients_are_those_of_the_values_and_the_centroids_have_none():
    head, features = filled(), torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    learned = [parameter for name, parameter in head.named_parameters() if name != "centroids"]
    assert torch.autograd.gradcheck(lambda x, *parameters: head(x), (features, *learned))
    head(features).sum().backward()
    assert head.centroids.grad is None


def test_the_centroids_are_read_as_they_are_now():
    head, features = filled(), torch.randn(5, 4, dtype=torch.float64)
    before = head(features)
    with torch.no_grad():
        head.centroids.add_(1)
    assert not torch.allclose(head(features), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_feature_that_is_a_centroid_has_the_largest_logits_and_a_gradient(dtype):
    head = filled(dtype=dtype)
    features = head.centroids.detach().clone().requires_grad_()
    logits = head(features)
    logits.sum().backward()
    assert features.grad.isfinite().all()
    memory = head.memory
    directions = torch.nn.functional.normalize(memory.recall(features.detach()), dim=1)
    weight = torch.nn.functional.normalize(head.weight.detach(), dim=1)
    torch.testing.assert_close(logits.detach(), 16 * directions @ weight.T, rtol=1e-4, atol=1e-4)


def test_under_autocast_distances_and_memory_stay_float32():
    head, features = filled(dtype=torch.float32), torch.randn(6, 4) + 100
    with torch.no_grad():
        head.centroids.add_(100)  # bfloat16 would not tell these centroids from one another
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head.memory.recall(features)
    assert found.dtype == torch.float32
    near = torch.linalg.vector_norm(head.memory.recall(features), dim=1)
    torch.testing.assert_close(torch.linalg.vector_norm(found, dim=1), near, rtol=2e-2, atol=0)


def test_head_and_attention_are_compiled_whole():
    network = build_network(
        ModelConfig(backbone="resnet10", stem="small", head="oltr_memory", attention="modulated", attention_side=2), 3
    )
    for module, given in (
        (network.classifier, torch.randn(4, 512)),
        (network.backbone.avgpool.attention, torch.randn(4, 512, 2, 2)),
    ):
        compiled = torch.compile(module, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(given), module(given))


def test_it_begins_with_the_class_means_and_the_classifier_of_stage_1():
    head, means = filled(), torch.randn(3, 4, dtype=torch.float64)
    stage_1 = torch.nn.Linear(4, 3).double()
    head.begin(means, stage_1.weight, stage_1.bias)
    assert torch.equal(head.centroids, means)
    features = torch.randn(5, 4, dtype=torch.float64)
    assert torch.equal(head.hallucinator(features), stage_1(features))


def test_a_network_with_a_memory_comes_back_from_disk(tmp_path):
    config = ModelConfig(backbone="resnet10", stem="small", head="oltr_memory")
    network, path = build_network(config, 5).eval(), tmp_path / "model.safetensors"
    assert network.centroids is network.classifier.centroids
    with torch.no_grad():
        network.centroids.normal_()
    save_network(network, path)
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(load_network(config, 5, path).eval()(images), network(images))
