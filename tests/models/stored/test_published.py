"""Published checkpoints: in the layout of the paper's code, in torchvision's, and in ours."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from ltrsys.errors import DataError
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.models.stored.published import load_published
from ltrsys.models.stored.weights import save_network

CONFIG = ModelConfig(backbone="resnet10")
NUM_CLASSES = 7


@pytest.fixture(scope="module")
def theirs(one_thread):
    """A network as torchvision builds it, with statistics that are not the initial ones; tests leave it as it is."""
    torch.manual_seed(0)
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=NUM_CLASSES)
    network(torch.randn(4, 3, 64, 64))
    return network.eval()


def paper_layout(network, key="state_dict_best", scales=None):
    """What the paper's code saves: two DataParallel modules, and what else it knows."""
    classifier = nn.Module()
    classifier.fc = network.fc
    if scales is not None:
        classifier.scales = nn.Parameter(scales)
    feat_model = nn.DataParallel(network).state_dict()
    without_head = OrderedDict((name, value) for name, value in feat_model.items() if ".fc." not in name)
    state = {"feat_model": without_head, "classifier": nn.DataParallel(classifier).state_dict()}
    return {"epoch": 90, "best_epoch": 89, key: state, "best_acc": 0.41, "centroids": None}


LAYOUTS = {
    "paper": lambda network: ("paper", paper_layout(network)),
    "paper, while it trains": lambda network: ("paper", paper_layout(network, key="state_dict")),
    "torchvision": lambda network: ("torchvision", network.state_dict()),
    "torchvision, DataParallel": lambda network: ("torchvision", nn.DataParallel(network).state_dict()),
    "torchvision, in a record": lambda network: ("torchvision", {"epoch": 3, "state_dict": network.state_dict()}),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zipped", "as before PyTorch 1.6"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_network_says_what_theirs_said(layout, zipped, theirs, tmp_path):
    name, content = LAYOUTS[layout](theirs)
    torch.save(content, tmp_path / "theirs.pth", _use_new_zipfile_serialization=zipped)
    published = load_published(CONFIG, NUM_CLASSES, tmp_path / "theirs.pth")
    assert (published.layout, published.scales_C) == (name, None)
    images = torch.randn(3, 3, 64, 64)
    assert torch.equal(published.network.eval()(images), theirs(images))


def test_a_run_s_own_model_is_read_too(tmp_path):
    network = build_network(CONFIG, NUM_CLASSES)
    save_network(network, tmp_path / "model.safetensors")
    published = load_published(CONFIG, NUM_CLASSES, tmp_path / "model.safetensors")
    assert published.layout == "ltrsys"
    assert torch.equal(published.network.classifier.weight, network.classifier.weight)


def test_a_head_by_another_name_is_the_classifier(tmp_path):
    theirs = torchvision.models.mobilenet_v3_small(num_classes=NUM_CLASSES)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    published = load_published(ModelConfig(backbone="mobilenet_v3_small"), NUM_CLASSES, tmp_path / "theirs.pth")
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(published.network.eval()(images), theirs.eval()(images))


def test_the_factors_of_lws_stand_apart(theirs, tmp_path):
    scales = torch.rand(NUM_CLASSES)
    torch.save(paper_layout(theirs, scales=scales), tmp_path / "theirs.pth")
    published = load_published(CONFIG, NUM_CLASSES, tmp_path / "theirs.pth")
    assert torch.equal(published.scales_C, scales)
    assert torch.equal(published.network.classifier.weight, theirs.fc.weight)


def test_old_files_without_counters_are_whole(theirs, tmp_path):
    state = {name: value for name, value in theirs.state_dict().items() if "num_batches_tracked" not in name}
    torch.save(state, tmp_path / "theirs.pth")
    images = torch.randn(3, 3, 64, 64)
    network = load_published(CONFIG, NUM_CLASSES, tmp_path / "theirs.pth").network
    assert torch.equal(network.eval()(images), theirs(images))


@pytest.mark.parametrize("number", [np.float64(0.41), np.float32(0.41), np.int64(41), np.bool_(True)])
def test_numbers_of_numpy_beside_the_weights_are_read(number, theirs, tmp_path):
    record = paper_layout(theirs) | {"best_acc": number}
    torch.save(record, tmp_path / "zipped.pth")
    torch.save(record, tmp_path / "now.pth", _use_new_zipfile_serialization=False)
    now = (tmp_path / "now.pth").read_bytes()
    (tmp_path / "numpy1.pth").write_bytes(now.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"))
    assert (tmp_path / "numpy1.pth").read_bytes() != now
    for name in ("zipped", "now", "numpy1"):
        assert load_published(CONFIG, NUM_CLASSES, tmp_path / f"{name}.pth").layout == "paper"


def test_every_tensor_that_does_not_fit_is_named(theirs, tmp_path):
    content = paper_layout(theirs)
    feat_model = content["state_dict_best"]["feat_model"]
    del feat_model["module.conv1.weight"], feat_model["module.layer2.0.downsample.0.weight"]
    feat_model["module.fc_add.weight"] = feat_model["module.fc_add.bias"] = torch.zeros(512)
    feat_model["module.bn1.bias"] = torch.zeros(65)
    torch.save(content, tmp_path / "theirs.pth")
    with pytest.raises(DataError) as caught:
        load_published(CONFIG, NUM_CLASSES, tmp_path / "theirs.pth")
    assert str(caught.value) == (
        f"{tmp_path / 'theirs.pth'}: not the tensors of model.backbone=resnet10: missing: backbone.conv1.weight, "
        "backbone.layer2.0.downsample.0.weight; superfluous: backbone.fc_add.weight, backbone.fc_add.bias; "
        "of another shape: backbone.bn1.bias [65] instead of [64]. Its network has model.feature_layer=512."
    )


def test_a_wrong_backbone_is_told_which_one_it_is(theirs, tmp_path):
    torch.save(paper_layout(theirs), tmp_path / "theirs.pth")
    with pytest.raises(
        DataError, match=r"not the tensors of .*=resnet50: missing: .* more.*model\.backbone=resnet10\."
    ):
        load_published(ModelConfig(backbone="resnet50"), NUM_CLASSES, tmp_path / "theirs.pth")


def test_another_number_of_classes_is_told_by_numbers(theirs, tmp_path):
    torch.save(paper_layout(theirs), tmp_path / "theirs.pth")
    with pytest.raises(DataError, match=r"its classifier has 7 classes, and data\.shards has 9\."):
        load_published(CONFIG, 9, tmp_path / "theirs.pth")


def test_a_file_without_a_classifier_says_so(theirs, tmp_path):
    content = paper_layout(theirs)
    content["state_dict_best"]["classifier"] = {}
    torch.save(content, tmp_path / "theirs.pth")
    with pytest.raises(DataError, match=r"missing: classifier\.weight, classifier\.bias"):
        load_published(CONFIG, NUM_CLASSES, tmp_path / "theirs.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not weights by name"),
        ({"epoch": 3}, "`epoch` is a int, not a tensor"),
        ({"state_dict": {"fc.weight": "w"}}, r"`fc\.weight` is a str, not a tensor"),
    ],
)
def test_a_file_of_something_else_is_one_clear_line(content, message, tmp_path):
    torch.save(content, tmp_path / "theirs.pth")
    with pytest.raises(DataError, match=message) as caught:
        load_published(CONFIG, NUM_CLASSES, tmp_path / "theirs.pth")
    assert "\n" not in str(caught.value)


def test_a_pickled_network_is_refused_by_the_name_it_would_call(theirs, tmp_path):
    torch.save(theirs, tmp_path / "whole.pth")
    with pytest.raises(DataError, match=r"it names torchvision\.models\.resnet\.ResNet, which is not called") as caught:
        load_published(CONFIG, NUM_CLASSES, tmp_path / "whole.pth")
    assert "\n" not in str(caught.value)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(theirs.state_dict(), protocol=2))
    with pytest.raises(DataError, match=r"plain\.pth: holds something other than plain tensors"):
        load_published(CONFIG, NUM_CLASSES, tmp_path / "plain.pth")


class PlainAttention(nn.Module):
    """Attention by the names of the paper's code, and as plain as can be."""

    def __init__(self):
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(512, 256, 1) for _ in range(3))
        self.conv_mask = nn.Conv2d(256, 512, 1, bias=False)
        self.fc_spatial = nn.Linear(512 * 4, 4)

    def forward(self, x):
        theta, phi, g = (layer(x).reshape(len(x), 256, 4) for layer in (self.theta, self.phi, self.g))
        weights = torch.einsum("nkp,nkq->npq", theta, phi).softmax(dim=2)
        mask = self.conv_mask(torch.einsum("npq,nkq->nkp", weights, g).reshape(len(x), 256, 2, 2))
        return x + self.fc_spatial(x.reshape(len(x), -1)).softmax(dim=1).reshape(-1, 1, 2, 2) * mask


class PlainMemory(nn.Module):
    """OLTR's classifier by the names of the paper's code."""

    def __init__(self):
        super().__init__()
        self.fc_hallucinator, self.fc_selector = nn.Linear(512, NUM_CLASSES), nn.Linear(512, 512)
        self.cosnorm_classifier = nn.Module()
        self.cosnorm_classifier.weight = nn.Parameter(torch.randn(NUM_CLASSES, 512))

    def forward(self, x, centroids):
        reach = 10 / torch.cdist(x, centroids, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1).values
        remembered = self.fc_selector(x).tanh() * (self.fc_hallucinator(x).softmax(dim=1) @ centroids)
        x = reach[:, None] * (x + remembered)
        length = x.norm(dim=1, keepdim=True)
        return 16 * (x / length * length / (1 + length)) @ nn.functional.normalize(self.cosnorm_classifier.weight).T


def of_oltr(theirs, attention, layered, memory):
    """What the paper's code saves of a network with some of OLTR's parts, and the logits of two images of 64 pixels."""
    torch.manual_seed(5)
    head, images = nn.Linear(512, NUM_CLASSES), torch.randn(2, 3, 64, 64)
    fc_add, modulatedatt, clf, centroids = nn.Linear(512, 512), PlainAttention(), PlainMemory(), torch.randn(7, 512)
    stem = (theirs.conv1, theirs.bn1, theirs.relu, theirs.maxpool)
    with torch.no_grad():
        maps = nn.Sequential(*stem, theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)(images)
        x = (modulatedatt(maps) if attention else maps).mean(dim=(2, 3))
        x = fc_add(x).relu() if layered else x
        logits = clf(x, centroids) if memory else head(x)
    content = paper_layout(theirs)
    state = content["state_dict_best"]
    if attention:
        named = modulatedatt.state_dict().items()
        state["feat_model"] |= {f"module.modulatedatt.{name}": tensor for name, tensor in named}
    if layered:
        state["feat_model"] |= {f"module.fc_add.{name}": tensor for name, tensor in fc_add.state_dict().items()}
    state["classifier"] = {f"module.fc.{name}": tensor for name, tensor in head.state_dict().items()}
    if memory:
        state["classifier"] = nn.DataParallel(clf).state_dict()
        content["centroids"] = centroids
    return content, images, logits


PARTS = {
    "layer": ({"feature_layer": 512}, (False, True, False)),
    "attention": ({"attention": "modulated", "attention_side": 2}, (True, False, False)),
    "layer and attention": (
        {"feature_layer": 512, "attention": "modulated", "attention_side": 2},
        (True, True, False),
    ),
    "all of OLTR": (
        {"feature_layer": 512, "attention": "modulated", "attention_side": 2, "head": "oltr_memory"},
        (True, True, True),
    ),
}


@pytest.mark.parametrize("parts", PARTS)
def test_networks_with_oltr_s_parts_say_what_theirs_said(parts, theirs, tmp_path):
    settings, which = PARTS[parts]
    content, images, logits = of_oltr(theirs, *which)
    torch.save(content, tmp_path / "theirs.pth")
    published = load_published(ModelConfig(backbone="resnet10", **settings), NUM_CLASSES, tmp_path / "theirs.pth")
    assert published.layout == "paper"
    with torch.no_grad():
        torch.testing.assert_close(published.network.eval()(images), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parts", PARTS)
def test_a_config_without_them_is_told_the_keys_to_give(parts, theirs, tmp_path):
    settings, which = PARTS[parts]
    content, *_ = of_oltr(theirs, *which)
    torch.save(content, tmp_path / "theirs.pth")
    with pytest.raises(DataError) as caught:
        load_published(CONFIG, NUM_CLASSES, tmp_path / "theirs.pth")
    advice = str(caught.value).rpartition("Its network has ")[2]
    assert all(f"model.{key}={value}" in advice for key, value in settings.items())
    assert "superfluous: backbone." in str(caught.value)


@pytest.mark.long
def test_what_a_file_lacks_of_them_is_named(theirs, tmp_path):
    torch.save(paper_layout(theirs), tmp_path / "theirs.pth")
    with pytest.raises(DataError, match=r"missing: backbone\.fc\.linear\.weight, backbone\.fc\.linear\.bias\."):
        load_published(ModelConfig(backbone="resnet10", feature_layer=512), NUM_CLASSES, tmp_path / "theirs.pth")
