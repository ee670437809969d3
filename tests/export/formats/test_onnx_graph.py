"""ONNX files: what they compute, and what they say of themselves."""

import json
from contextlib import suppress
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.classifiers.nearest.ncm import NCMConfig, NearestClassMean
from ltrsys.errors import DataError, UsageError
from ltrsys.export import onnx_sessions
from ltrsys.export.formats import onnx_graph
from ltrsys.export.formats.onnx_graph import FILE, ONNXExporter
from ltrsys.export.images import as_bytes, normalised
from ltrsys.features.bank import BankSplit
from ltrsys.features.making.extraction import features_of
from ltrsys.models.backbones.base import build_backbone
from ltrsys.models.config import ModelConfig
from ltrsys.models.signature import DIGEST_KEY, KEY, Signature
from tests.classifiers.conftest import NUM_CLASSES, LongTail, context
from tests.export.models import SIDE, check, images, loaded, subject_of
from tests.second_stage.test_store import make

pytestmark = pytest.mark.long


def written(folder: Path) -> onnx.ModelProto:
    return onnx.load(folder / FILE)


def operations(model: onnx.ModelProto) -> set[str]:
    assert {node.domain for node in model.graph.node} == {""}, "operations of one's own"
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS.names() if name != "cosine_no_relu"])
def test_a_classifier_gives_the_probabilities_of_the_run(name: str, long_tail: LongTail, tmp_path: Path) -> None:
    check(ONNXExporter, subject_of(loaded(make(name, long_tail), tmp_path)), tmp_path)
    onnx.checker.check_model(written(tmp_path), full_check=True)
    assert operations(written(tmp_path))


@pytest.mark.parametrize(("feature", "distance"), [("plain", "euclidean"), ("cl2n", "euclidean"), ("l2n", "cosine")])
def test_a_class_without_an_image_is_never_predicted(feature, distance, long_tail, tmp_path) -> None:
    present = long_tail.train.labels != 3
    train = BankSplit(long_tail.train.features[present], long_tail.train.labels[present], NUM_CLASSES)
    ncm = NearestClassMean.fit(context(train), NCMConfig(feature=feature, distance=distance))
    check(ONNXExporter, subject_of(loaded(ncm, tmp_path)), tmp_path)
    assert (ONNXExporter.open(tmp_path)(images(5))[:, 3] == 0).all()


def test_linear_classifiers_are_one_product(long_tail: LongTail, tmp_path: Path) -> None:
    ONNXExporter.write(subject_of(loaded(make("lws", long_tail), tmp_path)), tmp_path)
    found = [node.op_type for node in written(tmp_path).graph.node]
    assert found.count("Gemm") + found.count("MatMul") == 1
    assert "BatchNormalization" not in found


def test_features_before_the_last_relu(long_tail: LongTail, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone, feature_dim = build_backbone(ModelConfig(backbone="resnet10", stem="small"))
    make_scores = make("cosine_no_relu", long_tail)
    weight_CD = torch.randn(NUM_CLASSES, feature_dim)
    model = loaded(type(make_scores)(weight_CD, make_scores.scale), tmp_path, backbone.eval(), side=16)
    ONNXExporter.write(subject_of(model), tmp_path)
    given = images(3, 16)
    with torch.inference_mode():
        features = features_of(model.backbone, given, ["no_relu"])["no_relu"]
        expected = model.classifier.scores(features).softmax(dim=1)
    torch.testing.assert_close(ONNXExporter.open(tmp_path)(given), expected, rtol=0, atol=1e-5)


def test_the_file_says_what_it_takes_and_what_its_outputs_mean(long_tail: LongTail, tmp_path: Path) -> None:
    model = loaded(make("crt", long_tail), tmp_path)
    ONNXExporter.write(subject_of(model, temperature=1.5), tmp_path)
    said = {entry.key: entry.value for entry in written(tmp_path).metadata_props}
    assert Signature.model_validate_json(said[KEY]) == model.signature
    assert said[DIGEST_KEY] == model.signature.sha256
    assert json.loads(said["classes"]) == [record.name for record in model.signature.classes]
    assert json.loads(said["taxonomy"])[1] == {"family": "F1", "genus": "G, g"}
    preprocessing = json.loads(said["preprocessing"])
    assert (preprocessing["resize"], preprocessing["image_size"]) == (SIDE + 2, SIDE)
    assert said["temperature"] == "1.5"
    assert str(Path.cwd()) not in str(written(tmp_path)), "torch notes the places of code at the nodes"
    assert onnxruntime.InferenceSession(tmp_path / FILE).get_modelmeta().custom_metadata_map == said


def test_the_temperature_divides_the_logits(long_tail: LongTail, tmp_path: Path) -> None:
    check(ONNXExporter, subject_of(loaded(make("crt", long_tail), tmp_path), temperature=2.5), tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / FILE)
    logits, probabilities = map(torch.from_numpy, session.run(None, {"images": images(4).numpy()}))
    torch.testing.assert_close((logits / 2.5).softmax(dim=1), probabilities)


def test_bytes_are_normalised_inside(long_tail: LongTail, tmp_path: Path) -> None:
    model = loaded(make("crt", long_tail), tmp_path)
    preprocessing, subject = model.signature.preprocessing, subject_of(model)
    subject.folded.normalise(preprocessing.mean, preprocessing.std)
    ONNXExporter.write(subject, tmp_path)
    pixels = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    assert torch.equal(as_bytes(normalised(pixels, preprocessing), preprocessing), pixels)
    with torch.inference_mode():
        expected = model.classifier.scores(model.backbone(normalised(pixels, preprocessing))).softmax(dim=1)
    torch.testing.assert_close(ONNXExporter.open(tmp_path)(pixels), expected, rtol=0, atol=1e-5)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="uint8"):
        ONNXExporter.open(tmp_path)(images(3))


@pytest.mark.parametrize("name", ["crt", "ncm"])
def test_float16_halves_the_weights(name: str, long_tail: LongTail, tmp_path: Path) -> None:
    subject = subject_of(loaded(make(name, long_tail), tmp_path), precision="float16")
    subject.folded.to_float16()
    check(ONNXExporter, subject, tmp_path, atol=0.02)
    kinds = {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in written(tmp_path).graph.initializer}
    assert ("FLOAT" in kinds) == (name == "ncm"), "what is not linear stays as it is"
    assert "FLOAT16" in kinds


def test_weights_that_float16_cannot_hold_are_refused(long_tail: LongTail, tmp_path: Path) -> None:
    subject = subject_of(loaded(make("crt", long_tail), tmp_path), precision="float16")
    subject.folded.backbone[4].weight.fill_(1e5)
    with pytest.raises(UsageError, match=r"tensor `4\.weight` holds numbers above 65,504"):
        subject.folded.to_float16()


@pytest.mark.parametrize("name", ["crt", "ncm"])
def test_int8_quantises_the_backbone_and_a_linear_classifier(name: str, long_tail: LongTail, tmp_path: Path) -> None:
    model = loaded(make(name, long_tail), tmp_path)
    subject = subject_of(model, precision="int8", calibration_images=images(64))
    ONNXExporter.write(subject, tmp_path)
    given = images(100)
    with torch.inference_mode():
        expected = model.classifier.scores(model.backbone(given)).argmax(dim=1)
    assert (ONNXExporter.open(tmp_path)(given).argmax(dim=1) == expected).float().mean() > 0.8
    assert len(expected.unique()) > 5
    model_proto = written(tmp_path)
    int8 = {tensor.name for tensor in model_proto.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    producers = {output: node for node in model_proto.graph.node for output in node.output}
    inputs = {node.op_type: [producers.get(name) for name in node.input] for node in model_proto.graph.node}
    assert any(node.input[0] in int8 for node in inputs["Conv"] if node is not None)
    of_classifier = {node.op_type for node in inputs["Gemm"] if node is not None}
    assert ("DequantizeLinear" in of_classifier) == (name == "crt")
    assert "DequantizeLinear" not in {node.op_type for node in inputs["Softmax"] if node is not None}
    assert {entry.key: entry.value for entry in model_proto.metadata_props}[DIGEST_KEY] == model.signature.sha256


def test_what_does_not_fit_into_a_file_is_refused(long_tail, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_graph, "MAX_BYTES", 1000)
    with pytest.raises(UsageError, match="do not fit into one ONNX file"):
        ONNXExporter.write(subject_of(loaded(make("crt", long_tail), tmp_path)), tmp_path)


def test_a_classifier_that_cannot_be_traced_is_named(long_tail: LongTail, tmp_path: Path) -> None:
    subject = subject_of(loaded(make("crt", long_tail), tmp_path))

    class Choosy(torch.nn.Module):
        def forward(self, features):
            return features if features.sum() > 0 else -features

    subject.folded.classifier = Choosy()
    with pytest.raises(UsageError, match=r"classifier crt cannot be traced by torch\.export") as caught:
        ONNXExporter.write(subject, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_transformer_is_exported_or_refused_and_never_ends_the_process(precision, long_tail, tmp_path) -> None:
    torch.manual_seed(0)
    network = VisionTransformer(image_size=SIDE, patch_size=4, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32)
    network.heads = nn.Identity()
    subject = subject_of(loaded(make("crt", long_tail), tmp_path, network.eval()), precision=precision)
    if precision == "float32":
        check(ONNXExporter, subject, tmp_path)
        return
    subject.folded.to_float16()
    ONNXExporter.write(subject, tmp_path)
    with suppress(DataError):  # onnxruntime 1.32 is ended by a signal; a later one may load it
        ONNXExporter.open(tmp_path)


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
        ("raise OSError('no such kernel.')", "no such kernel"),
    ],
)
def test_what_onnxruntime_cannot_load_is_told(does: str, told: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_sessions, "TRIAL", does)
    with pytest.raises(DataError, match=rf"model\.onnx: onnxruntime cannot load what was written \(.*{told}\)"):
        ONNXExporter.open(tmp_path)
