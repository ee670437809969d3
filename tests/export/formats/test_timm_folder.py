"""Folders that timm loads."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torchvision.transforms import CenterCrop, Resize

from ltrsys.classifiers.adjusted.tau import TauNorm
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.nearest.ncm import NCMConfig, NearestClassMean
from ltrsys.data.config import Interpolation
from ltrsys.errors import UsageError
from ltrsys.export.formats.timm_folder import CONFIG, TENSORS, TimmExporter, crop_share, unique_names
from ltrsys.models.backbones.base import build_backbone
from ltrsys.models.config import ModelConfig
from ltrsys.models.signature import signature_in
from ltrsys.prediction.loading import LoadedModel
from tests.classifiers.conftest import NUM_CLASSES, LongTail
from tests.export.models import check, classes, loaded, subject_of
from tests.second_stage.test_store import make

pytestmark = pytest.mark.long


def model_of(folder: Path, name: str, kind: str = "joint", **settings: Any) -> LoadedModel:
    """Return a network by its name, with running statistics of its own, and a classifier."""
    torch.manual_seed(0)
    backbone, feature_dim = build_backbone(ModelConfig(backbone=name, **settings))
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    weight_CD, bias_C = torch.rand(NUM_CLASSES, feature_dim) / 5, torch.randn(NUM_CLASSES)
    present = torch.arange(NUM_CLASSES)
    classifier = {
        "joint": lambda: Joint(weight_CD, bias_C),
        "tau": lambda: TauNorm(weight_CD, 0.7, "val"),
        "ncm": lambda: NearestClassMean(weight_CD, present, torch.zeros(feature_dim), NCMConfig(feature="plain")),
    }[kind]()
    return loaded(classifier, folder, backbone.eval(), side=64, backbone=name, **settings)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("resnet10", "tau"), ("resnet18", "ncm"), ("resnext50_32x4d", "joint"), ("densenet121", "joint")],
)
def test_create_model_gives_the_probabilities_of_the_run(name: str, kind: str, tmp_path: Path) -> None:
    model = model_of(tmp_path, name, kind)
    TimmExporter.check(model)
    check(TimmExporter, subject_of(model, temperature=1.5), tmp_path)
    assert signature_in(tmp_path / TENSORS) == model.signature


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_config_holds_names_and_preprocessing_and_nothing_of_others(
    tmp_path: Path, interpolation: Interpolation
) -> None:
    model = model_of(tmp_path, "resnet10")
    preprocessing = model.signature.preprocessing.model_copy(update={"interpolation": interpolation})
    model = replace(model, signature=model.signature.model_copy(update={"preprocessing": preprocessing}))
    TimmExporter.write(subject_of(model), tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert config["label_names"] == unique_names(model.signature.classes)
    assert config["label_descriptions"][config["label_names"][1]] == "family F1, genus G, g"
    assert config["num_classes"] == NUM_CLASSES
    assert config["model_args"]["layers"] == [1, 1, 1, 1]
    assert "imagenet" not in json.dumps(config).lower().replace("in1k", "imagenet")
    network = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    data = timm.data.resolve_model_data_config(network)
    own = model.signature.preprocessing
    assert tuple(data["input_size"]) == (3, 64, 64)
    assert (tuple(data["mean"]), tuple(data["std"])) == (own.mean, own.std)
    resize, crop, *_ = timm.data.create_transform(**data, is_training=False).transforms
    assert isinstance(resize, Resize)
    assert (resize.size, resize.interpolation.value) == (own.resize, interpolation)
    assert isinstance(crop, CenterCrop)
    assert tuple(crop.size) == (64, 64)


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("resnet10", {"stem": "small"}, r"model\.stem=small"),
        ("resnet10", {"attention": "modulated", "attention_side": 2}, r"model\.attention=modulated"),
        ("resnet10", {"feature_layer": 8}, r"model\.feature_layer=8"),
        ("lenet_2d", {}, "no network called lenet_2d"),
        ("convnext_tiny", {}, "another network than torchvision's"),
    ],
)
def test_what_timm_has_not_is_refused(name: str, settings: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{why}.*Use --format onnx or torch\.$"):
        TimmExporter.check(model_of(tmp_path, name, **settings))


@pytest.mark.parametrize("name", ["cosine", "ncm", "mlp"])
def test_a_classifier_that_is_not_linear_is_refused(name: str, long_tail: LongTail, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"the classifier {name} is no linear layer"):
        TimmExporter.check(loaded(make(name, long_tail), tmp_path))


def test_timm_finds_the_size_that_images_are_resized_to() -> None:
    for resize in range(8, 600):
        for image_size in {resize, resize - 1, max(1, round(0.875 * resize)), resize // 2}:
            assert math.floor(image_size / crop_share(resize, image_size)) == resize


def test_names_that_two_classes_have_are_told_apart() -> None:
    names = unique_names(classes(3))
    assert names == ["Ähre, “0” (0)", "Ähre, “1”", "Ähre, “0” (2)"]
