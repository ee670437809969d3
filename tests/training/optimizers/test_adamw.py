import copy

import pytest
import torch
from pydantic import ValidationError

from ltrsys.errors import UsageError
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.optimizer_state import load_state_by_name, state_by_name
from ltrsys.training.optimizers.adamw import AdamW
from ltrsys.training.optimizers.base import build_optimizer
from tests.training.optimizers.steps import take_steps

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_one_fused_step_is_the_textbook_s(network):
    config = AdamW(lr=0.1, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.01)
    optimizer = build_optimizer(network, config, CPU)
    weight = network.classifier.weight
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for step in range(1, 4):
        before = weight.detach().clone()
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        first = 0.8 * first + 0.2 * weight.grad
        second = 0.9 * second + 0.1 * weight.grad**2
        adam = (first / (1 - 0.8**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-6)
        optimizer.step()
        torch.testing.assert_close(weight.detach(), before - 0.1 * (adam + 0.01 * before))


def test_deepspeed_s_without_a_gpu_is_told_and_the_advice_works(network):
    with pytest.raises(UsageError, match=r"`deepspeed` needs a GPU, and this is a CPU\. Use `auto` or `torch`"):
        build_optimizer(network, AdamW(impl="deepspeed"), CPU)
    for impl in ("auto", "torch"):
        assert type(build_optimizer(network, AdamW(impl=impl), CPU)) is torch.optim.AdamW


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it is compiled")
@pytest.mark.long
def test_deepspeed_s_that_cannot_be_compiled_is_told(network, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "/bin/false")
    with pytest.raises(UsageError, match=r"FusedAdam could not be compiled \(.+\)\. Install the CUDA toolkit"):
        build_optimizer(network, AdamW(impl="deepspeed"), CUDA)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, tests/gpu has the kernel itself")
def test_deepspeed_s_is_torch_s_and_goes_on_to_the_bit(network, monkeypatch, tmp_path):
    """By its kernel for CPUs, which stands for the GPU's here; both are called by the same code, which counts steps."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    twin, stopped = copy.deepcopy(network), copy.deepcopy(network)
    fused, plain = (AdamW(lr=0.01, layer_decay=0.8, impl=impl) for impl in ("deepspeed", "torch"))
    ours, theirs, first = (
        build_optimizer(one, config, device)
        for one, config, device in ((network, fused, CUDA), (twin, plain, CPU), (stopped, fused, CUDA))
    )
    take_steps(network, ours, range(4))
    take_steps(twin, theirs, range(4))
    take_steps(stopped, first, range(2))
    saved = state_by_name(first, stopped)
    assert {tensor.item() for name, tensor in saved.items() if name.endswith(".step")} == {2}
    second = build_optimizer(stopped, fused, CUDA)
    load_state_by_name(second, stopped, saved)
    take_steps(stopped, second, range(2, 4))
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter, twin.get_parameter(name))
        assert torch.equal(parameter, stopped.get_parameter(name)), name


def test_deepspeed_s_with_channels_last_is_refused_and_the_advice_works():
    fused = AdamW(impl="deepspeed")
    with pytest.raises(ValidationError, match=r"give train\.channels_last=false or train\.optimizer\.impl=auto"):
        TrainConfig(optimizer=fused, channels_last=True)
    assert not TrainConfig(optimizer=fused, channels_last=False).in_channels_last
    assert not TrainConfig(optimizer=fused).in_channels_last
    assert TrainConfig(optimizer=AdamW(impl="auto"), channels_last=True).in_channels_last
