"""`ltrsys export` from end to end, on real shards, a trained network and the programs that load what it writes."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ltrsys.data.index.dataset import Dataset
from ltrsys.models.signature import signature_in
from ltrsys.models.stored.weights import load_tensors, metadata_of, save_tensors
from ltrsys.prediction.images.collections import Samples
from ltrsys.prediction.predictor import Predictor
from ltrsys.runs.folder import RunFolder
from tests.classifiers.runs import make_run
from tests.cli.training.test_balance import ltrsys
from tests.conftest import on_one_thread

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("plugins_forgotten")]

FILES = ["README.md", "classes.csv", "export.json", "preprocessing.json"]
CLASSIFIERS = ["joint", "ncm", "crt", "tau", "lws", "cosine", "mlp"]
SHORT = [f"balance.{name}={{epochs: 2, lr: 0.1, batch_size: 64}}" for name in ("crt", "lws", "cosine", "mlp")] + [
    "balance.feature_batch_size=64"
]

PLUGIN = '''
import torch

from ltrsys.export.formats.base import EXPORTERS, Exporter
from ltrsys.models.stored.weights import load_tensors, save_tensors


@EXPORTERS.register
class Table(Exporter):
    """Answers with the class frequencies, whatever the image."""

    name, summary = "table", "the same probabilities for every image"

    @classmethod
    def write(cls, subject, folder):
        counts = torch.tensor(subject.model.signature.train_counts).float()
        save_tensors({"share": counts / counts.sum()}, folder / "table.safetensors")

    @classmethod
    def open(cls, folder):
        share = load_tensors(folder / "table.safetensors")["share"]
        return lambda images: share.expand(len(images), -1)

    @classmethod
    def loading_code(cls, subject):
        return "probabilities_of = None"


@EXPORTERS.register
class Copy(Table):
    """Gives what the run gives."""

    name, summary = "copy", "the model itself"

    @classmethod
    def write(cls, subject, folder):
        super().write(subject, folder)
        cls.folded = subject.folded

    @classmethod
    def open(cls, folder):
        return lambda images: cls.folded(images)[1]
'''


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with on_one_thread():
        yield


@pytest.fixture(scope="module")
def run(trained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was trained and balanced; tests leave it as it is."""
    run = RunFolder(Path(shutil.copytree(trained(train__epochs=4), tmp_path_factory.mktemp("exported") / "run")))
    assert ltrsys("balance", run.path, "--classifiers", ",".join(CLASSIFIERS), *SHORT) == 0
    return run


@pytest.fixture(scope="module")
def residual(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An untrained run of a network that timm has."""
    run = make_run(tmp_path_factory.mktemp("residual") / "run", tiny_shards, backbone="resnet10")
    assert ltrsys("balance", run.path, "--classifiers", "joint,tau") == 0
    return run


@pytest.fixture
def again(run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run, to change."""
    return RunFolder(Path(shutil.copytree(run.path, tmp_path / "again")))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_an_export_gives_what_the_run_gives(name: str, run: RunFolder, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert ltrsys("export", run.path, "--format", "onnx", "--classifier", name, "--out", out) == 0
    printed = capsys.readouterr().out
    found = re.search(r"same top-1 on 240 of 240.*, probabilities to (\S+) \(240 images of test\)", printed)
    assert found
    assert float(found[1]) <= 1e-4
    assert str(out) in printed
    assert names(out) == sorted([*FILES, "model.onnx"])
    assert names(tmp_path) == ["out"]


def test_what_travels_along_is_that_of_the_run(run: RunFolder, tmp_path: Path) -> None:
    out, signature = tmp_path / "out", signature_in(run.model)
    assert signature is not None
    assert ltrsys("export", run.path, "--format", "torch", "--classifier", "crt", "--out", out) == 0
    assert signature_in(out / "model.safetensors") == signature
    record = json.loads((out / "export.json").read_text())
    assert record["signature_sha256"] == signature.sha256
    assert sorted(record["files"]) == sorted(set(names(out)) - {"export.json"})
    preprocessing = json.loads((out / "preprocessing.json").read_text())
    assert signature.preprocessing.model_dump(mode="json").items() <= preprocessing.items()
    assert (preprocessing["normalised_by"], preprocessing["dtype"]) == ("caller", "float32")
    with open(out / "classes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [entry.name for entry in signature.classes]
    assert [int(row["training_images"]) for row in rows] == signature.train_counts


def test_the_card_says_what_is_known(run: RunFolder, tmp_path: Path) -> None:
    options = ["--format", "torch", "--classifier", "crt", "--license", "cc-by-4.0"]
    assert ltrsys("export", run.path, *options, "--out", tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    line = next(one for one in json.loads(run.results.read_text())["results"] if one["classifier"] == "crt")
    low, high = line["confidence_95"]["few"]
    assert f"| few | {line['few']:.1f} | {low:.1f} to {high:.1f} |" in card
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert "6 of 12 classes had fewer than 20 training images" in card
    assert "all classes are equally frequent" in card
    assert "train 425, val 120, test 240" in card


def test_an_accuracy_of_an_earlier_fit_is_not_told(again: RunFolder, tmp_path: Path) -> None:
    results = json.loads(again.results.read_text())
    for line in results["results"]:
        line["fingerprint"] = "another"
    again.results.write_text(json.dumps(results))
    assert ltrsys("export", again.path, "--format", "torch", "--out", tmp_path / "out") == 0
    assert "has not measured this classifier" in (tmp_path / "out" / "README.md").read_text()


def test_the_code_of_the_card_runs(run: RunFolder, residual: RunFolder, tmp_path: Path, tiny_shards: Path) -> None:
    samples = Samples(Dataset.open(tiny_shards).split("test"))
    for format, of, more in (
        ("onnx", run, ["--classifier", "crt", "--uint8"]),
        ("torch", run, ["--classifier", "ncm"]),
        ("timm", residual, ["--classifier", "tau"]),
    ):
        out = tmp_path / format
        assert ltrsys("export", of.path, "--format", format, *more, "--out", out) == 0
        (code,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
        (out / "answer.py").write_text(code)
        with Predictor.load(of.path, classifier=more[1]) as predictor:
            probabilities = predictor.probabilities([samples.read(place) for place in range(len(samples))])
        best = probabilities.sort(dim=1, descending=True).values
        place = int((best[:, 0] - best[:, 1]).argmax())  # resizing by Pillow and by DALI differs in the last bit
        (out / "photograph.jpg").write_bytes(samples.read(place))
        command = [sys.executable, "answer.py", "photograph.jpg"]
        done = subprocess.run(command, cwd=out, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        probability, name = done.stdout.splitlines()[0].split("  ")
        assert name == predictor.signature.classes[int(probabilities[place].argmax())].name
        assert float(probability) == pytest.approx(float(probabilities[place].max()), abs=0.02)


def test_float16_tells_the_accuracy(run: RunFolder, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert ltrsys("export", run.path, "--format", "onnx", "--classifier", "crt", "--float16", "--out", out) == 0
    printed = capsys.readouterr().out
    assert "accuracy      many  medium     few     all    mean" in printed
    accuracy = json.loads((out / "export.json").read_text())["accuracy"]
    line = next(one for one in json.loads(run.results.read_text())["results"] if one["classifier"] == "crt")
    assert accuracy["before"]["few"] == pytest.approx(line["few"])  # all 240 images
    assert "before    " in (out / "README.md").read_text()


def blown_up(run: RunFolder) -> RunFolder:
    """Give a network a feature that is huge and means nothing: one scale of int8 for all features fits it alone."""
    tensors, metadata = load_tensors(run.model), metadata_of(run.model)
    norms = [name for name in tensors if re.fullmatch(r"backbone\.layer4\.0\.bn2\.bias", name)]
    assert len(norms) == 1
    tensors[norms[0]][0] = 1e4
    tensors["classifier.weight"][:, 0] = 0
    save_tensors(tensors, run.model, metadata)
    shutil.rmtree(run.features)
    shutil.rmtree(run.classifiers)
    run.results.unlink()
    assert ltrsys("balance", run.path, "--classifiers", "joint", "balance.feature_batch_size=64") == 0
    return run


def test_int8_that_loses_accuracy_is_refused_unless_it_is_accepted(run, again, tmp_path, capsys, caplog) -> None:
    out = tmp_path / "out"
    int8 = ["--format", "onnx", "--classifier", "joint", "--int8", "--out", out]
    spoiled = blown_up(again)
    capsys.readouterr()
    assert ltrsys("export", spoiled.path, *int8) == 1
    printed = capsys.readouterr()
    assert re.search(
        r"int8 loses \d+\.\d points of accuracy .* on 240 images of test\. Nothing was written", printed.err
    )
    assert "before" in printed.out
    assert names(tmp_path) == ["again"]
    assert ltrsys("export", spoiled.path, *int8, "--force") == 0
    assert "which --force accepts" in caplog.text
    assert "**int8 loses" in (out / "README.md").read_text()
    assert "ranges from 120 images of val" in caplog.text


def test_int8_that_keeps_the_accuracy_is_small(run: RunFolder, tmp_path: Path, capsys) -> None:
    for name, options in (("plain", []), ("int8", ["--int8"])):
        command = ["export", run.path, "--format", "onnx", "--classifier", "joint", *options]
        assert ltrsys(*command, "--out", tmp_path / name) == 0
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("plain", "int8")]
    assert sizes[1] < 0.27 * sizes[0]


def test_a_damaged_classifier_and_one_that_is_not_fitted_are_named(again: RunFolder, tmp_path: Path, capsys) -> None:
    damaged = again.classifiers / "crt.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    out = ["--out", tmp_path / "out"]
    assert ltrsys("export", again.path, "--format", "torch", "--classifier", "crt", *out) == 1
    assert "crt.safetensors: not a saved classifier, or a damaged one" in capsys.readouterr().err
    assert ltrsys("export", again.path, "--format", "torch", "--classifier", "fslwf", *out) == 2
    assert "fslwf has not been fitted. Choose from joint" in capsys.readouterr().err
    assert ltrsys("export", again.path, "--format", "tensorflow", *out) == 2
    assert "`tensorflow`: unknown exporter" in capsys.readouterr().err
    assert ltrsys("export", again.path, "--format", "torch", "--int8", *out) == 2
    assert "--int8: format torch has none. Use --format onnx." in capsys.readouterr().err
    assert ltrsys("export", again.path, "--format", "timm", "--uint8", *out) == 2
    assert "takes normalised images. Use --format onnx or torch." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def shards_of(tiny_shards: Path, folder: Path) -> Path:
    """Link a dataset, with a record of its own."""
    folder.mkdir()
    for path in tiny_shards.iterdir():
        (folder / path.name).symlink_to(path)
    record = (folder / "dataset.json").read_bytes()
    (folder / "dataset.json").unlink()
    (folder / "dataset.json").write_bytes(record)
    return folder


def test_shards_of_other_classes_are_refused_by_what_differs(run, tiny_shards, tmp_path, capsys) -> None:
    shards = shards_of(tiny_shards, tmp_path / "shards")
    record = json.loads((shards / "dataset.json").read_text())
    first, second = record["classes"][:2]
    record["classes"][:2] = [second, first]
    (shards / "dataset.json").write_text(json.dumps(record))
    out = tmp_path / "out"
    assert ltrsys("export", run.path, "--format", "torch", "--shards", shards, "--out", out) == 2
    assert f"2 classes numbered anew ({first['name']} from 0 to 1" in capsys.readouterr().err
    assert not out.exists()


def test_without_shards_noise_is_used_and_said(again: RunFolder, tmp_path: Path, tiny_shards, capsys, caplog) -> None:
    config = again.config_file
    config.write_text(config.read_text().replace(str(tiny_shards), str(tmp_path / "gone")))
    out = ["--out", tmp_path / "out"]
    assert ltrsys("export", again.path, "--format", "onnx", "--int8", *out) == 2
    assert "--int8 needs images of the run's shards" in capsys.readouterr().err
    assert ltrsys("export", again.path, "--format", "torch", *out) == 0
    assert "the export is not tried on images, but on noise" in caplog.text
    assert "(16 images of noise)" in capsys.readouterr().out
    assert ltrsys("export", again.path, "--format", "torch", *out, "--overwrite", "--shards", tiny_shards) == 0
    assert "(240 images of test)" in capsys.readouterr().out
    assert ltrsys("export", again.path, "--format", "torch", *out, "--overwrite", "--shards", tmp_path / "none") == 1
    assert "there is no dataset index here" in capsys.readouterr().err


def test_an_export_is_replaced_only_if_that_is_asked_for_and_nothing_else_ever(run, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    export = ["export", run.path, "--format", "torch", "--out", out]
    assert ltrsys(*export) == 0
    before = (out / "export.json").read_text()
    assert ltrsys(*export, "--classifier", "ncm") == 2
    assert "there is an export already. --overwrite replaces it" in capsys.readouterr().err
    assert (out / "export.json").read_text() == before
    assert ltrsys(*export, "--classifier", "ncm", "--overwrite") == 0
    assert json.loads((out / "export.json").read_text())["classifier"] == "ncm"
    assert names(tmp_path) == ["out"]
    (out / "export.json").unlink()
    assert ltrsys(*export, "--overwrite") == 2
    assert "is there already, and is no export" in capsys.readouterr().err


def test_attribution_goes_along(run: RunFolder, tmp_path: Path, tiny_shards: Path, capsys) -> None:
    shards = shards_of(tiny_shards, tmp_path / "shards")
    table = "item,licence,rights_holder\r\na.jpg,CC BY 4.0,Ada\r\nb.jpg,CC BY 4.0,Bo\r\nc.jpg,,Cy\r\n"
    (shards / "attribution.csv").write_text(table, newline="")
    out = tmp_path / "out"
    export = ["export", run.path, "--format", "torch", "--shards", shards, "--out", out]
    assert ltrsys(*export) == 0
    assert (out / "attribution.csv").read_bytes() == (shards / "attribution.csv").read_bytes()
    assert "CC BY 4.0 (2), none stated (1)." in (out / "README.md").read_text()
    (shards / "attribution.csv").write_text("who\r\nAda\r\n")
    assert ltrsys(*export, "--overwrite") == 1
    assert "not a file of attributions" in capsys.readouterr().err
    assert "CC BY 4.0 (2)" in (out / "README.md").read_text()


def test_a_plugin_of_a_format_works_and_one_that_computes_otherwise_is_refused(run, tmp_path, capsys) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    export = ["export", run.path, "--plugin", tmp_path / "plugin.py", "--out", tmp_path / "out", "--format"]
    assert ltrsys(*export, "table") == 1
    error = capsys.readouterr().err
    assert re.search(r"does not give what the run gives: a probability differs by .*more than 0\.0001", error)
    assert names(tmp_path) == ["plugin.py"]
    assert ltrsys(*export, "copy") == 0
    assert (tmp_path / "out" / "table.safetensors").exists()
    assert ltrsys("methods", "exporter", "--json", "--plugin", tmp_path / "plugin.py") == 0
    listed = json.loads(capsys.readouterr().out.partition("\n")[2].partition("{")[2].join(["{", ""]))
    assert [entry["name"] for entry in listed["exporter"]] == ["onnx", "torch", "timm", "copy", "table"]


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_full_disk_is_told_and_nothing_is_left(format, run, small_disk, capsys) -> None:
    disk = small_disk("3M")
    assert ltrsys("export", run.path, "--format", format, "--out", disk / "out") == 1
    assert "the disk is full" in capsys.readouterr().err
    assert names(disk) == []


def test_a_folder_that_cannot_be_written_is_told(run: RunFolder, small_disk, capsys) -> None:
    disk = small_disk("3M")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert ltrsys("export", run.path, "--format", "torch", "--out", disk / "out") == 1
    assert "no permission to write there" in capsys.readouterr().err
