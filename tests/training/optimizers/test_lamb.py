import torch

from ltrsys.training.optimizers.base import build_optimizer
from ltrsys.training.optimizers.lamb import LAMB

CPU = torch.device("cpu")


def test_steps_are_the_paper_s(network):
    config = LAMB(lr=0.1, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.01)
    optimizer = build_optimizer(network, config, CPU)
    weight = network.classifier.weight
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for step in range(1, 4):
        before = weight.detach().clone()
        for parameter in network.parameters():
            parameter.grad = 100 * torch.randn_like(parameter)  # nothing clips them
        first = 0.8 * first + 0.2 * weight.grad
        second = 0.9 * second + 0.1 * weight.grad**2
        adam = (first / (1 - 0.8**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-6)
        update = adam + 0.01 * before
        optimizer.step()
        torch.testing.assert_close(weight.detach(), before - 0.1 * before.norm() / update.norm() * update)
