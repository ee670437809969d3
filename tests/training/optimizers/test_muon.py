import copy

import pytest
import torch

from ltrsys.training.optimizers.base import build_optimizer
from ltrsys.training.optimizers.muon import Muon
from tests.training.optimizers.steps import take_steps

CPU = torch.device("cpu")


def test_matrices_are_updated_as_torch_s_muon_does(network):
    convolution = network.backbone.layer2[0].conv1.weight  # of [out, in·3·3]
    matrix = torch.nn.Parameter(convolution.detach().flatten(1).clone())
    ours = build_optimizer(network, Muon(lr=0.01, momentum=0.9, weight_decay=0.1), CPU)
    theirs = torch.optim.Muon(
        [matrix], lr=0.01, momentum=0.9, weight_decay=0.1, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    before = matrix.detach().clone()
    for seed in range(3):
        take_steps(network, ours, [seed])
        matrix.grad = convolution.grad.flatten(1).clone()
        theirs.step()
    moved = (matrix - before).norm()
    # both orthogonalise in bfloat16, with 8 bits of mantissa, by five iterations that multiply in another order
    assert (convolution.flatten(1) - matrix).norm() < 5 * 2**-8 * moved


def test_classifier_biases_and_norms_are_updated_by_adamw(network):
    twin = copy.deepcopy(network)
    config = Muon(lr=0.01, nesterov=False, beta1=0.8, beta2=0.9, weight_decay=0.1)
    ours = build_optimizer(network, config, CPU)
    theirs = torch.optim.AdamW(twin.parameters(), lr=0.01, betas=(0.8, 0.9), eps=1e-7, weight_decay=0.1)
    for seed in range(3):
        take_steps(network, ours, [seed])
        take_steps(twin, theirs, [seed])
    for name, parameter in network.named_parameters():
        alike = torch.allclose(parameter, twin.get_parameter(name), atol=1e-6)
        assert alike == (parameter.ndim == 1 or name.startswith("classifier.")), name


@pytest.mark.parametrize("backbone_lr", [None, 0.002])
def test_the_classifier_is_a_group_of_its_own_whatever_its_rate(network, backbone_lr):
    optimizer = build_optimizer(network, Muon(lr=0.001, backbone_lr=backbone_lr), CPU)
    by_fallback = {group["use_fallback"]: {id(one) for one in group["params"]} for group in optimizer.param_groups}
    assert by_fallback[True] == {id(one) for one in network.classifier.parameters()}
    assert by_fallback[False] == {id(one) for one in network.backbone.parameters()}
