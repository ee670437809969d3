"""A folder that `timm.create_model` loads: `config.json` and `model.safetensors`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ltrsys.errors import UsageError
from ltrsys.export.formats.base import EXPORTERS, Exporter
from ltrsys.export.subject import Runner, Subject

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from ltrsys.data.index.records import ClassRecord
    from ltrsys.prediction.loading import LoadedModel

CONFIG, TENSORS = "config.json", "model.safetensors"

SHAPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "resnet10": ("resnet18", {"layers": [1, 1, 1, 1]}),
    "resnext152_32x4d": ("resnext101_32x4d", {"layers": [3, 8, 36, 3]}),
}
"""Backbones that timm has no name for: its nearest, and the arguments that make it ours."""

CODE = """\
import timm
import torch

model = timm.create_model("local-dir:.", pretrained=True).eval()


def probabilities_of(images):
    with torch.inference_mode():
        return model(torch.from_numpy(images)).softmax(dim=1).numpy()
"""


@EXPORTERS.register
class TimmExporter(Exporter):
    """A network of timm with a linear classifier; the logits are divided by the temperature already."""

    name = "timm"
    summary = "a folder for timm.create_model, of networks that timm has, with a linear classifier"
    source = "Wightman, 2019: PyTorch Image Models"
    order = 30
    takes_bytes = False
    needs = ("timm",)

    @classmethod
    def check(cls, model: LoadedModel) -> None:
        """Refuse a classifier that is not linear, and a network that timm has not."""
        from torch import nn

        from ltrsys.models.views import AVERAGED

        others = "Use --format onnx or torch."
        settings = model.config.model
        if model.classifier.features != "last" or not isinstance(model.classifier.module(), nn.Linear):
            raise UsageError(
                f"--format timm: the classifier {model.classifier.name} is no linear layer, and timm's networks end in "
                f"one. {others}"
            )
        for key, plain in (("stem", "imagenet"), ("attention", "none"), ("feature_layer", None)):
            if (value := getattr(settings, key)) != plain:
                raise UsageError(f"--format timm: timm has no network with model.{key}={value}. {others}")
        if isinstance(model.backbone, AVERAGED):
            raise UsageError(f"--format timm: timm has no network that averages over views of an image. {others}")
        if (network := _network(model, meta=True)) is None:
            raise UsageError(f"--format timm: timm has no network called {settings.backbone}. {others}")
        ours = {name: tuple(tensor.shape) for name, tensor in _tensors(model, network).items()}
        theirs = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        if differing := sorted(ours.items() ^ theirs.items()):
            raise UsageError(
                f"--format timm: what timm calls {settings.backbone} is another network than torchvision's (tensor "
                f"`{differing[0][0]}`). {others}"
            )

    @classmethod
    def write(cls, subject: Subject, folder: Path) -> None:
        """Write the folder as timm does."""
        from timm.models._hub import save_config_for_hf  # as timm's own `save_for_hf` writes it, weights aside

        from ltrsys.export.metadata import metadata_of
        from ltrsys.models.stored.weights import save_tensors

        model, temperature = subject.model, subject.folded.temperature
        network = _network(model)
        assert network is not None
        tensors = _tensors(model, network, subject.folded.classifier)
        for name in (f"{_head(network)}.weight", f"{_head(network)}.bias"):
            tensors[name] = tensors[name] / temperature
        network.load_state_dict(tensors)
        classes = model.signature.classes
        names = unique_names(classes)
        labels = {"label_names": names, "label_descriptions": dict(zip(names, map(_description, classes), strict=True))}
        save_config_for_hf(network, str(folder / CONFIG), model_config=labels, data_config=_data_config(model))
        save_tensors(dict(network.state_dict()), folder / TENSORS, {"format": "pt"} | metadata_of(subject))

    @classmethod
    def open(cls, folder: Path) -> Runner:
        """Create the model."""
        import timm
        import torch

        network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

        def run(images: Tensor) -> Tensor:
            with torch.inference_mode():
                probabilities: Tensor = network(images).softmax(dim=1)
            return probabilities

        return run

    @classmethod
    def loading_code(cls, subject: Subject) -> str:
        """Return the code."""
        return CODE


def unique_names(classes: Sequence[ClassRecord]) -> list[str]:
    """Return the names of the classes, with the number of the class where several have one name."""
    times = Counter(record.name for record in classes)
    return [
        record.name if times[record.name] == 1 else f"{record.name} ({number})" for number, record in enumerate(classes)
    ]


def crop_share(preprocessing_resize: int, image_size: int) -> float:
    """Return the `crop_pct` from which timm finds the size that the short side is resized to, floor(S / crop_pct)."""
    share = image_size / preprocessing_resize
    while math.floor(image_size / share) < preprocessing_resize:  # by the rounding of the quotient
        share = math.nextafter(share, 0)
    return share


def _network(model: LoadedModel, *, meta: bool = False) -> Any | None:
    """Return timm's network of the backbone, with random weights, or without memory; None where it has none."""
    import timm
    import torch

    backbone = model.config.model.backbone
    name, arguments = SHAPES.get(backbone, (backbone.removeprefix("timm/"), {}))
    if not timm.is_model(name):
        return None
    known = timm.get_pretrained_cfg(name)
    num_classes = len(model.signature.classes)
    # not all that is known: it would bear the licence and the origin of others' weights
    own = {
        "num_classes": num_classes,
        "classifier": getattr(known, "classifier", None),
        "first_conv": getattr(known, "first_conv", None),
        "fixed_input_size": getattr(known, "fixed_input_size", False),
        **_data_config(model),
    }
    with torch.random.fork_rng(devices=[]), torch.device("meta" if meta else "cpu"):
        return timm.create_model(name, pretrained_cfg=own, num_classes=num_classes, **arguments)


def _head(network: Any) -> str:
    return str(network.pretrained_cfg["classifier"])


def _tensors(model: LoadedModel, network: Any, classifier: nn.Module | None = None) -> dict[str, Tensor]:
    """Return our tensors by timm's names: those of the backbone are the same, and the head has its own."""
    import torch

    layer = classifier or model.classifier.module()
    assert isinstance(layer, torch.nn.Linear)
    bias = torch.zeros(layer.out_features, device=layer.weight.device) if layer.bias is None else layer.bias
    head = {f"{_head(network)}.weight": layer.weight, f"{_head(network)}.bias": bias}
    return {name: tensor.detach().cpu() for name, tensor in (model.backbone.state_dict() | head).items()}


def _data_config(model: LoadedModel) -> dict[str, Any]:
    """Return the preprocessing in timm's words."""
    own = model.signature.preprocessing
    return {
        "input_size": (3, own.image_size, own.image_size),
        "interpolation": own.interpolation,
        "crop_pct": crop_share(own.resize, own.image_size),
        "crop_mode": "center",
        "mean": own.mean,
        "std": own.std,
    }


def _description(record: ClassRecord) -> str:
    """Return the taxonomy of a class in one line, or else its name."""
    return ", ".join(f"{rank} {name}" for rank, name in record.taxonomy.items()) or record.name
