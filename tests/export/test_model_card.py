"""Model cards."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.photographs import photograph
from ltrsys.classifiers.base import Classifier
from ltrsys.data.config import Interpolation
from ltrsys.evaluation.results import read_results
from ltrsys.export.companions import write_classes, write_preprocessing
from ltrsys.export.comparison import Comparison
from ltrsys.export.formats.onnx_graph import ONNXExporter
from ltrsys.export.model_card import PREPARE, ModelCard
from ltrsys.prediction.images.batches import BatchReader
from ltrsys.prediction.images.collections import Files
from ltrsys.prediction.loading import load_model
from ltrsys.runs.folder import RunFolder
from tests.classifiers.conftest import CPU, LongTail
from tests.export.models import loaded, subject_of
from tests.prediction.conftest import named
from tests.second_stage.test_store import make

__all__ = ["named"]


def card_of(classifier: Classifier[Any], folder: Path, *, counts: list[int] | None = None, **more: Any) -> str:
    model = loaded(classifier, folder)
    if counts is not None:
        object.__setattr__(model, "signature", model.signature.model_copy(update={"train_counts": counts}))
    same = np.zeros(3, np.int64)
    card = ModelCard(
        subject=subject_of(model, temperature=more.pop("temperature", 1.0)),
        exporter=ONNXExporter,
        comparison=Comparison("3 images of test", same, same, same, same == 0, 0.0),
        **{"accuracies": None, "loss": None, "record": None, "results": None, "line": None}
        | {"licences": None, "licence": "unknown"}
        | more,
    )
    return card.text()


def test_the_front_matter_is_yaml(long_tail: LongTail, tmp_path: Path) -> None:
    _, front, rest = card_of(make("crt", long_tail), tmp_path).split("---\n", 2)
    values = yaml.safe_load(front)
    assert (values["license"], values["library_name"]) == ("unknown", "onnx")
    assert values["metrics"] == ["accuracy"]
    assert "model-index" not in values
    assert "has not measured this classifier: nothing is known of its accuracy" in rest


def test_limits_are_those_of_the_classes_and_the_classifier(long_tail: LongTail, tmp_path: Path) -> None:
    counts = [500, 300, *[50] * 15, 5, 0, 0]
    balanced = card_of(make("crt", long_tail), tmp_path, counts=counts)
    assert "3 of 20 classes had fewer than 20 training images." in balanced
    assert "2 classes had no training image. They cannot be recognised." in balanced
    assert "all classes are equally frequent" in balanced
    assert "all classes are as frequent as in training" in card_of(long_tail.joint, tmp_path, counts=counts)
    assert "no training image" not in card_of(long_tail.joint, tmp_path)
    lossy = card_of(long_tail.joint, tmp_path, loss="3.0 points of accuracy")
    assert "**int8 loses 3.0 points of accuracy.** This was accepted by `--force`." in lossy


def test_the_temperature_is_told(long_tail: LongTail, tmp_path: Path) -> None:
    assert "None: probabilities are the softmax of the logits" in card_of(long_tail.joint, tmp_path)
    assert "divided by the temperature 1.37" in card_of(long_tail.joint, tmp_path, temperature=1.37)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_its_code_prepares_a_photograph_as_the_run_does(
    long_tail: LongTail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpolation: Interpolation
) -> None:
    model = loaded(long_tail.joint, tmp_path, side=56)
    preprocessing = model.signature.preprocessing.model_copy(update={"interpolation": interpolation})
    model = replace(model, signature=model.signature.model_copy(update={"preprocessing": preprocessing}))
    write_preprocessing(subject_of(model), tmp_path)
    write_classes(subject_of(model), tmp_path)
    (tmp_path / "photograph.jpg").write_bytes(photograph(0, 100))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(PREPARE, names)
    config = model.config.data.model_copy(update={"interpolation": interpolation})
    with BatchReader(config, reduced_to=None, batch_size=1, device=CPU) as reader:
        (batch,) = reader.batches(Files(["photograph.jpg"]), [0])
    assert np.abs(names["prepared"]("photograph.jpg") - batch.pixels.numpy()).mean() < 0.5 / 255 / 0.224


@pytest.mark.long
def test_what_was_measured_of_the_calibration_is_told(named: RunFolder, tmp_path: Path) -> None:
    results = read_results(named.results)
    line = results.line("crt")
    assert line is not None
    assert line.calibration is not None
    model = load_model(named.path, "crt", CPU)
    card = ModelCard(
        subject=subject_of(model, temperature=line.calibration.temperature),
        exporter=ONNXExporter,
        comparison=Comparison("3 images of test", *[np.zeros(3, np.int64)] * 3, np.ones(3, bool), 0.0),
        accuracies=None,
        loss=None,
        record=None,
        results=results,
        line=line,
        licences=None,
        licence="unknown",
    ).text()
    before, after = (
        measured.calibration_error["few"] for measured in (line.calibration.before, line.calibration.after)
    )
    assert "which was fitted on val (120 images)" in card
    assert f"| few | {before:.1f} | {after:.1f} |" in card
    for reached in line.calibration.precisions:
        told = f"For a precision of {reached.wanted:.0%}, take answers of a probability from" in card
        assert told == (reached.threshold is not None)


def test_the_most_frequent_licences_are_told(long_tail: LongTail, tmp_path: Path) -> None:
    licences = Counter({f"licence {place}": place for place in range(1, 13)})
    card = card_of(long_tail.joint, tmp_path, licences=licences, licence="cc-by-4.0")
    assert "The licence of this model is cc-by-4.0." in card
    assert "licence 12 (12), licence 11 (11)" in card
    assert "and 2 more licences." in card
