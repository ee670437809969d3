"""Models to export: small untrained networks with classifiers of 20 classes, held in memory."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ltrsys.classifiers.base import Classifier
from ltrsys.data.index.records import ClassRecord
from ltrsys.export.comparison import exact_scores
from ltrsys.export.folding import FoldedModel
from ltrsys.export.formats.base import Exporter
from ltrsys.export.subject import Subject
from ltrsys.models.signature import Preprocessing, Signature
from ltrsys.prediction.loading import LoadedModel
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.store import Fitted
from tests.classifiers.conftest import NUM_CLASSES, NUM_FEATURES
from tests.classifiers.runs import make_config

SIDE = 8


def small_backbone() -> nn.Module:
    """Return a network whose features are as large as those that the classifiers were fitted on."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(3, NUM_FEATURES, 3, bias=False),
            nn.BatchNorm2d(NUM_FEATURES),
            nn.ReLU(),
            nn.Conv2d(NUM_FEATURES, NUM_FEATURES, 3),
            nn.BatchNorm2d(NUM_FEATURES),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ]
        network = nn.Sequential(*layers)
        with torch.no_grad():
            network[4].weight.fill_(20)
            network(torch.randn(64, 3, SIDE, SIDE))  # running statistics of its own
        return network.eval()


def classes(number: int) -> list[ClassRecord]:
    """Return classes with odd names, two of them the same, the last without taxonomy."""
    records = [
        ClassRecord(name=f"Ähre, “{place}”", source_id=str(place), taxonomy={"family": f"F{place}", "genus": "G, g"})
        for place in range(number)
    ]
    twin = ClassRecord(name=records[0].name, source_id="twin")
    return [*records[:-1], twin]


def loaded(
    classifier: Classifier[Any], folder: Path, network: nn.Module | None = None, *, side: int = SIDE, **model: Any
) -> LoadedModel:
    """Put a classifier behind a network, as `load_model` does."""
    config = make_config(folder / "run", folder / "shards")
    data = config.data.model_copy(update={"image_size": side, "resize": side + 2})
    config = config.model_copy(update={"data": data, "model": config.model.model_copy(update=model)})
    signature = Signature(
        classes=classes(NUM_CLASSES),
        train_counts=[max(2, 200 - 10 * place) for place in range(NUM_CLASSES)],
        preprocessing=Preprocessing(
            reduced_to=None,
            resize=data.resize,
            image_size=side,
            mean=tuple(data.mean),
            std=tuple(data.std),
            interpolation=data.interpolation,
        ),
    )
    fitted = Fitted(classifier, "bank", "fingerprint")
    network = small_backbone() if network is None else network
    return LoadedModel(RunFolder(folder / "run"), config, signature, network, NUM_FEATURES, fitted)


def subject_of(model: LoadedModel, *, temperature: float = 1.0, **more: Any) -> Subject:
    return Subject(model, FoldedModel.of(model, temperature), **({"precision": "float32"} | more))


def images(number: int, side: int = SIDE) -> Tensor:
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(number))


@torch.inference_mode()
def check(exporter: type[Exporter], subject: Subject, folder: Path, *, atol: float = 1e-5) -> None:
    """Write a model, load it, and compare it with the network and the classifier that it was made of."""
    exporter.write(subject, folder)
    run = exporter.open(folder)
    model, temperature = subject.model, subject.folded.temperature
    for number in (1, 2, 7):
        given = images(number, model.signature.preprocessing.image_size)
        scores = exact_scores(model.classifier, model.backbone(given))
        probabilities = run(given)
        assert probabilities.dtype == torch.float32
        expected = (scores / temperature).softmax(dim=1).float()
        torch.testing.assert_close(probabilities, expected, rtol=0, atol=atol)
        assert (probabilities.std(dim=1) > 1e-4).all(), "equal probabilities would agree with anything"
