import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from ltrsys.errors import DataError
from ltrsys.models.backbones.base import build_backbone
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.models.stored.weights import load_backbone, load_network, load_parts, save_network

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = ModelConfig(backbone="resnet10", stem="small")


@pytest.fixture
def saved(tmp_path):
    network = build_network(CONFIG, 5).to(memory_format=torch.channels_last)
    path = tmp_path / "model.safetensors"
    save_network(network, path)
    return network, path


def test_a_network_comes_back_to_the_last_bit(saved):
    network, path = saved
    again = load_network(CONFIG, 5, path)
    for (name, tensor), (name_again, tensor_again) in zip(
        network.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name == name_again
        assert torch.equal(tensor, tensor_again), name


def test_loading_leaves_the_random_numbers_alone(saved):
    _, path = saved
    before = torch.random.get_rng_state()
    load_network(CONFIG, 5, path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_only_the_backbone_is_taken_from_a_run_with_other_classes(saved):
    network, path = saved
    other = build_network(CONFIG, 3)
    classifier = other.classifier.weight.clone()
    load_backbone(other, path)
    assert torch.equal(other.backbone.conv1.weight, network.backbone.conv1.weight)
    assert torch.equal(other.classifier.weight, classifier)


def test_parts_that_are_told_to_start_fresh_are_left_alone_whether_the_file_has_them_or_not(saved):
    network, path = saved
    other = build_network(CONFIG, 5)
    other.attention = torch.nn.Linear(3, 3)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(DataError, match=r"tensor `attention\.weight` is missing"):
        load_parts(other, path)
    load_parts(other, path, fresh=["classifier", "attention"])
    then, now = network.state_dict(), other.state_dict()
    assert all(torch.equal(now[name], then[name]) for name in then if name.startswith("backbone."))
    assert all(torch.equal(now[name], before[name]) for name in now if not name.startswith("backbone."))
    load_parts(other, path, fresh=["attention"])
    assert all(torch.equal(other.state_dict()[name], then[name]) for name in then)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_torchvision_s_own_file_fills_the_backbone(tmp_path, suffix):
    import torchvision

    theirs = torchvision.models.resnet18(weights=None)
    path = tmp_path / f"resnet18{suffix}"
    save_file(theirs.state_dict(), path) if suffix == ".safetensors" else torch.save(theirs.state_dict(), path)
    network = build_network(ModelConfig(backbone="resnet18"), 3)
    load_backbone(network, path)
    images = torch.randn(2, 3, 64, 64)
    theirs.fc = torch.nn.Identity()
    assert torch.equal(network.eval().backbone(images), theirs.eval()(images))


@pytest.mark.parametrize("cut", [0, 5, 1000])
def test_a_truncated_file_is_named(saved, cut):
    _, path = saved
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: not a file of plain tensors, or a damaged one"):
        load_network(CONFIG, 5, path)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_an_empty_file_of_torch_is_named(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.touch()
    with pytest.raises(DataError, match=rf"model\{suffix}: not a file of plain tensors, or a damaged one"):
        load_network(CONFIG, 5, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no file of weights"):
        load_network(CONFIG, 5, tmp_path / "none.safetensors")


def test_a_pickle_of_anything_but_tensors_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"network": build_backbone(CONFIG)[0]}, path)
    with pytest.raises(DataError, match=re.escape(str(path))):
        load_network(CONFIG, 5, path)


def test_a_tensor_of_another_shape_is_named(saved):
    _, path = saved
    with pytest.raises(DataError, match=r"`classifier.weight` has shape \[5, 512\], the config's .* \[6, 512\]"):
        load_network(CONFIG, 6, path)


@pytest.mark.parametrize(("change", "message"), [("drop", "is missing"), ("add", "`extra` has no place")])
def test_a_file_with_a_tensor_too_few_or_too_many_is_refused(saved, change, message):
    _, path = saved
    tensors = load_file(path)
    if change == "drop":
        del tensors["backbone.conv1.weight"]
    else:
        tensors["extra"] = torch.zeros(1)
    save_file(tensors, path)
    with pytest.raises(DataError, match=message):
        load_network(CONFIG, 5, path)
