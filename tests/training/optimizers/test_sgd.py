import sys

import pytest
import torch

from ltrsys.errors import UsageError
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training.optimizers.base import build_optimizer, set_learning_rates
from ltrsys.training.optimizers.sgd import SGD

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def installed_apex(tmp_path, monkeypatch):
    """Install a package called `apex` for this test; the argument says what `apex/optimizers.py` holds."""

    def install(optimizers: str | None):
        (tmp_path / "apex").mkdir()
        (tmp_path / "apex" / "__init__.py").write_text("")
        if optimizers is not None:
            (tmp_path / "apex" / "optimizers.py").write_text(optimizers)
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    for name in [name for name in sys.modules if name.split(".")[0] == "apex"]:
        del sys.modules[name]


@pytest.mark.parametrize("backbone_lr", [None, 0.01])
def test_centroids_of_a_head_have_the_rate_of_the_loss_and_all_else_its_own(backbone_lr):
    network = build_network(ModelConfig(backbone="resnet10", stem="small", head="oltr_memory"), 3)
    optimizer = build_optimizer(network, SGD(lr=0.1, backbone_lr=backbone_lr), CPU, loss_lr=0.005)
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        of_part = 0.1 if backbone_lr is None or name.startswith("classifier.") else backbone_lr
        assert rates[parameter] == (0.005 if name == "classifier.centroids" else of_part)


def test_every_parameter_is_trained_once(network):
    for config in (SGD(), SGD(backbone_lr=0.01)):
        optimizer = build_optimizer(network, config, CPU)
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        assert len(trained) == len(set(trained)) == len(list(network.parameters()))


def test_the_backbone_has_a_learning_rate_of_its_own_throughout_the_schedule(network):
    optimizer = build_optimizer(network, SGD(lr=0.1, backbone_lr=0.01), CPU)
    set_learning_rates(optimizer, 0.5)
    set_learning_rates(optimizer, 0.25)
    lr_of = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert lr_of[network.classifier.bias] == pytest.approx(0.025)
    assert lr_of[network.backbone.conv1.weight] == pytest.approx(0.0025)


def test_a_loss_with_parameters_has_a_learning_rate_of_its_own(network):
    loss = torch.nn.Linear(2, 2, bias=False)
    optimizer = build_optimizer(network, SGD(lr=0.1), CPU, loss, 0.01)
    set_learning_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.005]
    assert optimizer.param_groups[1]["params"] == [loss.weight]
    assert build_optimizer(network, SGD(lr=0.1), CPU, loss).param_groups[1]["lr"] == 0.1


def test_one_fused_step_is_the_textbook_s(network):
    config = SGD(lr=0.1, momentum=0.9, weight_decay=0.01)
    optimizer = build_optimizer(network, config, CPU)
    weight, buffer = network.classifier.weight, torch.zeros_like(network.classifier.weight)
    for _ in range(3):
        before = weight.detach().clone()
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        buffer = 0.9 * buffer + weight.grad + 0.01 * before
        optimizer.step()
        torch.testing.assert_close(weight.detach(), before - 0.1 * buffer)


def test_apex_that_is_not_installed_is_told(network):
    with pytest.raises(UsageError, match="NVIDIA apex is not installed"):
        build_optimizer(network, SGD(impl="apex"), CUDA)


def test_apex_without_a_gpu_is_told(network):
    with pytest.raises(UsageError, match="needs a GPU"):
        build_optimizer(network, SGD(impl="apex"), CPU)


def test_the_unrelated_apex_of_pypi_is_recognised(network, installed_apex):
    installed_apex(None)
    with pytest.raises(UsageError, match=r"not NVIDIA's but the web toolkit .* `pip uninstall apex`"):
        build_optimizer(network, SGD(impl="apex"), CUDA)


def test_apex_without_its_extensions_is_told(network, installed_apex):
    installed_apex("raise ImportError('no module named amp_C')")
    with pytest.raises(UsageError, match=r"without its CUDA extensions .*amp_C"):
        build_optimizer(network, SGD(impl="apex"), CUDA)


def test_auto_is_torch_also_where_apex_is_installed(network, installed_apex):
    installed_apex("import torch\nclass FusedSGD(torch.optim.SGD): pass\n")
    for device in (CPU, CUDA):
        assert type(build_optimizer(network, SGD(), device)) is torch.optim.SGD
    assert type(build_optimizer(network, SGD(impl="apex"), CUDA)).__name__ == "FusedSGD"
