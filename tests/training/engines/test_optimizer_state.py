"""An optimizer's state by name: what is kept, however an optimizer keeps it."""

import pytest
import torch
from torch import nn

from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training.engines.optimizer_state import load_state_by_name, state_by_name
from ltrsys.training.optimizers.adamw import AdamW
from ltrsys.training.optimizers.base import build_optimizer
from ltrsys.training.optimizers.lamb import LAMB
from ltrsys.training.optimizers.muon import Muon
from ltrsys.training.optimizers.sgd import SGD
from tests.training.optimizers.steps import take_steps

CPU = torch.device("cpu")
KINDS = {
    "sgd": (SGD, {"momentum_buffer"}),
    "adamw": (AdamW, {"step", "exp_avg", "exp_avg_sq"}),
    "lamb": (LAMB, {"group_step", "exp_avg", "exp_avg_sq"}),
}


def make():
    torch.manual_seed(0)
    return build_network(ModelConfig(backbone="resnet10", stem="small"), 3).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("groups", [{}, {"layer_decay": 0.9, "decay_norms_and_biases": False}], ids=["one", "many"])
@pytest.mark.parametrize("method", [SGD, AdamW, LAMB, Muon], ids=lambda method: method.name)
@pytest.mark.long
def test_a_loaded_optimizer_goes_on_to_the_bit(method, groups):
    straight, stopped = make(), make()
    config = method(lr=0.01, **groups)
    whole, first = (build_optimizer(network, config, CPU) for network in (straight, stopped))
    take_steps(straight, whole, range(4))
    take_steps(stopped, first, range(2))
    saved = {name: tensor.clone().contiguous() for name, tensor in state_by_name(first, stopped).items()}
    second = build_optimizer(stopped, config, CPU)
    load_state_by_name(second, stopped, saved)
    take_steps(stopped, second, range(2, 4))
    for name, parameter in straight.named_parameters():
        assert torch.equal(stopped.get_parameter(name), parameter), name
    ours, theirs = state_by_name(second, stopped), state_by_name(whole, straight)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_its_state_by_name(kind):
    method, whats = KINDS[kind]
    network = make()
    optimizer = build_optimizer(network, method(), CPU)
    assert state_by_name(optimizer, network) == {}
    take_steps(network, optimizer, range(1))
    assert state_by_name(optimizer, network).keys() == {
        f"{name}.{what}" for name, _ in network.named_parameters() for what in whats
    }


def test_the_state_of_one_group_fits_many_and_back():
    """A step that is counted for the group is told of each of its parameters."""
    network = make()
    one = build_optimizer(network, LAMB(), CPU)
    take_steps(network, one, range(3))
    many = build_optimizer(network, LAMB(layer_decay=0.9), CPU)
    load_state_by_name(many, network, state_by_name(one, network))
    assert len(many.param_groups) == 6
    assert {float(group["step"]) for group in many.param_groups} == {3}
    again = build_optimizer(network, LAMB(), CPU)
    load_state_by_name(again, network, state_by_name(many, network))
    found, before = state_by_name(again, network), state_by_name(one, network)
    assert found.keys() == before.keys()
    assert all(torch.equal(found[name], before[name]) for name in before)


class CountingInOne(torch.optim.Optimizer):
    """An optimizer that keeps numbers as DeepSpeed's FusedAdam does: in the state of a group's last parameter."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})

    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state.setdefault("step", 0)
                state["seen"] = True
            state["step"] += 1


def test_numbers_are_kept_as_numbers_and_are_those_of_the_whole_group():
    module = nn.Linear(2, 3)
    first, second = CountingInOne(module.parameters()), CountingInOne(module.parameters())
    for _ in range(3):
        first.step()
    saved = state_by_name(first, module)
    assert {name: tensor.item() for name, tensor in saved.items()} == {
        "weight.step": 3, "weight.seen": True, "bias.step": 3, "bias.seen": True,
    }  # fmt: skip
    load_state_by_name(second, module, saved)
    assert [second.state[one] for one in module.parameters()] == [{"step": 3, "seen": True}] * 2
    assert all(type(second.state[one]["step"]) is int for one in module.parameters())
