"""Which learning rate and which weight decay a parameter has."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training.optimizers.base import build_optimizer, set_learning_rates
from ltrsys.training.optimizers.sgd import SGD

CPU = torch.device("cpu")


def group_of(network, config, **loss):
    """Return the group of each parameter of a network by name."""
    optimizer = build_optimizer(network, config, CPU, **loss)
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(groups)
    return {name: groups[parameter] for name, parameter in network.named_parameters()}


def test_by_default_all_is_one_group_with_weight_decay(network):
    (group,) = build_optimizer(network, SGD(weight_decay=0.1), CPU).param_groups
    assert [id(one) for one in group["params"]] == [id(one) for one in network.parameters()]
    assert group["weight_decay"] == 0.1


def test_norms_and_biases_do_not_decay_where_it_is_so_asked(network):
    for name, group in group_of(network, SGD(weight_decay=0.1, decay_norms_and_biases=False)).items():
        assert group["weight_decay"] == (0.1 if network.get_parameter(name).ndim > 1 else 0), name


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "swin_tiny_patch4_window7_224", "resnet10t"])
@pytest.mark.long
def test_a_network_of_timm_has_the_groups_that_timm_gives_it_with_its_own_head(name):
    whole = timm.create_model(name, num_classes=3)
    head = whole.pretrained_cfg["classifier"]
    expected = {}
    named = {parameter: name for name, parameter in whole.named_parameters()}
    unchanged = whole.no_weight_decay() if hasattr(whole, "no_weight_decay") else ()
    for group in param_groups_layer_decay(whole, 0.1, unchanged, layer_decay=0.5):
        for parameter in group["params"]:
            place = named[parameter]
            ours = place.replace(head, "classifier") if place.startswith(f"{head}.") else f"backbone.{place}"
            expected[ours] = (0.2 * group["lr_scale"], group["weight_decay"])

    network = build_network(ModelConfig(backbone=f"timm/{name}"), 3)
    found = group_of(network, SGD(lr=0.2, weight_decay=0.1, layer_decay=0.5, decay_norms_and_biases=False))
    assert {name: (group["lr"], group["weight_decay"]) for name, group in found.items()} == {
        name: pytest.approx(values) for name, values in expected.items()
    }


def test_a_resnet_s_layers_are_its_stem_its_stages_and_what_comes_after():
    network = build_network(ModelConfig(backbone="resnet10", feature_layer=8, attention="modulated"), 3)
    rates = {name: group["lr"] for name, group in group_of(network, SGD(lr=32.0, layer_decay=0.5)).items()}
    layers = {"conv1": 1, "bn1": 1, "layer1": 2, "layer2": 4, "layer3": 8, "layer4": 16, "avgpool": 32, "fc": 32}
    for name, rate in rates.items():
        part, _, rest = name.partition(".")
        assert rate == (32 if part == "classifier" else layers[rest.split(".")[0]]), name
    assert set(rates.values()) == {1, 2, 4, 8, 16, 32}


def test_layers_decay_from_the_backbone_s_own_rate_throughout_the_schedule(network):
    config = SGD(lr=0.1, backbone_lr=0.01, layer_decay=0.5)
    optimizer = build_optimizer(network, config, CPU)
    set_learning_rates(optimizer, 0.5)
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert rates[network.classifier.bias] == pytest.approx(0.05)
    assert rates[network.backbone.layer4[0].conv1.weight] == pytest.approx(0.005 * 0.5)
    assert rates[network.backbone.conv1.weight] == pytest.approx(0.005 * 0.5**5)


def test_what_the_loss_learns_has_its_own_rate_and_no_layer():
    network = build_network(ModelConfig(backbone="resnet10", stem="small", head="oltr_memory"), 3)
    found = group_of(network, SGD(lr=0.1, layer_decay=0.5), loss_lr=0.005)
    assert found["classifier.centroids"]["lr"] == 0.005
    assert found["classifier.hallucinator.weight"]["lr"] == 0.1
