import pytest
import torch

from ltrsys.errors import UsageError
from ltrsys.training.optimizers.adamw import AdamW
from ltrsys.training.optimizers.base import build_optimizer

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
def test_deepspeed_s_that_cannot_be_compiled_is_told(network, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "/bin/false")
    with pytest.raises(UsageError, match=r"FusedAdam could not be compiled \(.+\)\. Install the CUDA toolkit"):
        build_optimizer(network, AdamW(impl="deepspeed"), CUDA)
