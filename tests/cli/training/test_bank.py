"""`ltrsys bank`: runs without a first stage, from end to end, on real shards and a real pretrained network."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from ltrsys.cli.main import main
from ltrsys.commands.training.bank import CLASSIFIERS_WITHOUT_JOINT
from ltrsys.config.reading import load_run_config
from ltrsys.data.index.dataset import Dataset
from ltrsys.evaluation.results import read_results
from ltrsys.features.bank import FeatureBank
from ltrsys.files import sha256_of
from ltrsys.models.stored.weights import metadata_of
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.store import load_fitted
from tests.conftest import on_one_thread
from tests.models.pretrained_weights import BACKBONE, WEIGHTS

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]

NETWORK = ("--backbone", BACKBONE, "--pretrained", WEIGHTS, "--by-order")
SHORT = tuple(f"balance.{name}.epochs=2" for name in ("crt", "lws", "mlp", "crt_memory"))
SMALL = ("data.image_size=32", "data.resize=36", "data.threads=1", "tracking.wandb=disabled")


def ltrsys(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


@pytest.fixture(scope="module")
def made(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of EfficientNet-Lite0, balanced."""
    run = RunFolder(tmp_path_factory.mktemp("bank") / "lite0")
    with on_one_thread():
        assert ltrsys("bank", tiny_shards, *NETWORK, *SMALL, "--out", run.path) == 0
        assert ltrsys("balance", run.path, *SHORT) == 0
    return run


def tars(shards: Path) -> list[Path]:
    return sorted((shards / "test" / "shards").glob("*.tar"))


def own_files(run: RunFolder, split: str, name: str = "") -> list[object]:
    folder = run.features / split
    return [*([f"--{name or split}"] if split != "train" else []), folder / "features.npy", folder / "labels.npy"]


def given_again(run: RunFolder, out: Path, *more: object) -> int:
    features, labels = own_files(run, "train")
    splits = [*own_files(run, "val"), *own_files(run, "test")]
    return ltrsys("bank", "--features", features, "--labels", labels, *splits, "--out", out, *more)


def test_a_run_without_a_first_stage_is_balanced_against_the_linear_probe(made, tiny_shards):
    config = load_run_config(made)
    assert config.model.head == "none"
    assert config.data.interpolation == "bicubic"
    results = read_results(made.results)
    assert results.reference == "linear"
    assert {line.classifier for line in results.results} == {*CLASSIFIERS_WITHOUT_JOINT}
    assert results.results[0].classifier == "linear"
    assert [line.classifier for line in results.results if line.versus_joint is None] == ["linear"]
    assert made.report.exists()
    metadata = metadata_of(made.model)
    assert metadata["started_from"] == sha256_of(WEIGHTS)
    assert json.loads(metadata["pretrained"]) == str(WEIGHTS)
    assert FeatureBank.open(made.features).split("train").num_features == 1280


def test_a_finished_bank_is_left_as_it_is_and_another_is_not_written_over_it(made, tiny_shards, capsys):
    before = sha256_of(made.features / "train" / "features.npy"), made.model.stat().st_mtime_ns
    assert ltrsys("bank", tiny_shards, *NETWORK, *SMALL, "--out", made.path) == 0
    assert (sha256_of(made.features / "train" / "features.npy"), made.model.stat().st_mtime_ns) == before
    assert ltrsys("bank", tiny_shards, *NETWORK, *SMALL, "seed=3", "--out", made.path) == 2
    assert "there is a run with another config already" in capsys.readouterr().err


def test_joint_is_refused_with_what_stands_in_for_it(made, capsys):
    assert ltrsys("balance", made.path, "--classifiers", "joint,ncm") == 2
    assert "Give --classifiers linear,ncm" in capsys.readouterr().err
    assert ltrsys("evaluate", made.path) == 0
    assert "Linear probe" in capsys.readouterr().out


def test_predict_and_export_and_report_work_without_a_first_stage(made, tiny_shards, tmp_path, capsys):
    for classifier in ("linear", "tau"):
        out = tmp_path / f"{classifier}.csv"
        options = ("--classifier", classifier, "--top", "1", "--out", out)
        assert ltrsys("predict", made.path, *tars(tiny_shards), *options) == 0
        with out.open(newline="") as file:
            answers = [row["class_id"] for row in csv.DictReader(file)]
        assert len(answers) == 240
    assert ltrsys("export", made.path, "--format", "timm", "--classifier", "crt", "--out", tmp_path / "timm") == 0
    assert "same top-1 on" in capsys.readouterr().out
    assert ltrsys("report", made.path) == 0


def test_a_run_s_own_bank_given_again_gives_every_classifier_the_same_fingerprint(made, tmp_path, monkeypatch):
    assert given_again(made, tmp_path / "again", "tracking.wandb=disabled") == 0
    assert ltrsys("balance", tmp_path / "again", *SHORT) == 0
    for name in CLASSIFIERS_WITHOUT_JOINT:
        ours, theirs = (load_fitted(run / "classifiers", name, "cpu") for run in (made.path, tmp_path / "again"))
        assert ours.fingerprint == theirs.fingerprint, name
    assert (tmp_path / "again" / "results.json").read_text() == made.results.read_text()


def test_features_from_elsewhere_with_names_for_labels_give_the_same_accuracies(made, tiny_shards, tmp_path):
    names = [record.name for record in Dataset.open(tiny_shards).record.classes]
    arguments: list[object] = []
    for split in ("train", "val", "test"):
        folder = made.features / split
        labels = np.lib.format.open_memmap(folder / "labels.npy", mode="r").tolist()
        table = tmp_path / f"{split}.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerows(
                [("image", "species"), *((f"{row}.jpg", names[label]) for row, label in enumerate(labels))]
            )
        options = ["--features"] if split == "train" else [f"--{split}"]
        arguments += [*options, folder / "features.npy", *(["--labels"] if split == "train" else []), table]
    assert ltrsys("bank", *arguments, "--out", tmp_path / "run", "tracking.wandb=disabled") == 0
    assert ltrsys("balance", tmp_path / "run", "--classifiers", "ncm") == 0
    ours, theirs = (read_results(path).line("ncm") for path in (made.results, tmp_path / "run" / "results.json"))
    assert (ours.all, ours.few) == (theirs.all, theirs.few)


def test_a_run_of_features_from_elsewhere_says_why_it_cannot_name_photographs(made, tmp_path, capsys):
    assert given_again(made, tmp_path / "again", "tracking.wandb=disabled") == 0
    assert ltrsys("balance", tmp_path / "again", "--classifiers", "ncm") == 0
    capsys.readouterr()
    assert ltrsys("predict", tmp_path / "again", tmp_path, "--out", tmp_path / "names.csv") == 2
    assert "the network that made them is not here" in capsys.readouterr().err
    assert ltrsys("report", tmp_path / "again") == 0


def test_features_from_elsewhere_are_compared_row_by_row(made, tmp_path, capsys):
    assert given_again(made, tmp_path / "again", "tracking.wandb=disabled") == 0
    assert ltrsys("balance", tmp_path / "again", "--classifiers", "ncm") == 0
    capsys.readouterr()
    assert ltrsys("compare", made.path, tmp_path / "again", "--classifier", "ncm") == 0
    features, labels = own_files(made, "test")[1:]
    ids = np.lib.format.open_memmap(labels, mode="r")
    for name, order in (("straight", ids), ("turned", ids[::-1])):
        np.save(tmp_path / f"{name}.npy", order)
        options = ("--features", features, "--labels", labels, "--test", features, tmp_path / f"{name}.npy")
        assert ltrsys("bank", *options, "--out", tmp_path / name, "tracking.wandb=disabled") == 0
        assert ltrsys("balance", tmp_path / name, "--classifiers", "ncm") == 0
    capsys.readouterr()
    assert ltrsys("compare", tmp_path / "straight", tmp_path / "turned", "--classifier", "ncm") == 2
    assert "are compared row by row" in capsys.readouterr().err


@pytest.mark.parametrize("options", [("--views", "flip"), ("--views", "five"), ("bank.precision=bf16",)])
def test_a_bank_of_another_kind_is_predicted_by_as_it_was_made(made, tiny_shards, tmp_path, options):
    run = tmp_path / "run"
    assert ltrsys("bank", tiny_shards, *NETWORK, *SMALL, *options, "--out", run) == 0
    assert ltrsys("balance", run, "--classifiers", "ncm") == 0
    one, several = (FeatureBank.open(path / "features").split("test").features for path in (made.path, run))
    assert not np.allclose(one, several, rtol=1e-4)
    out = tmp_path / "names.csv"
    assert ltrsys("predict", run, *tars(tiny_shards), "--top", "1", "--out", out) == 0
    with out.open(newline="") as file:
        answers = [int(row["class_id"]) for row in csv.DictReader(file)]
    labels = FeatureBank.open(run / "features").split("test").labels
    ncm = read_results(run / "results.json").line("ncm")
    assert 100 * np.mean(answers == labels) == pytest.approx(ncm.all)
    export = ("--format", "onnx", "--classifier", "ncm", "--out", tmp_path / "export")
    assert ltrsys("export", run, *export) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give shards and a backbone"),
        (("SHARDS",), "--backbone is missing"),
        (("SHARDS", "more", "--backbone", BACKBONE), "one folder of shards is enough"),
        (("SHARDS", "--features", "x.npy"), "give shards and a backbone"),
        (("--features", "x.npy"), "--features needs --labels"),
        (("--features", "x.npy", "--labels", "y.csv"), "x.npy: there is no such file of features"),
        (("SHARDS", "--backbone", "timm/none"), "no network is called 'timm/none'"),
        (("SHARDS", "--backbone", BACKBONE, "--pretrained", "none.pth"), "none.pth: there is no such file"),
        (("SHARDS", "--backbone", BACKBONE, "--pretrained", WEIGHTS), "give model.pretrained_by_order=true"),
        (("SHARDS", "--backbone", "vit_b_16", "data.image_size=100"), "does not take images of data.image_size=100"),
    ],
)
def test_wrong_input_is_told_in_one_line_and_leaves_no_run(tiny_shards, tmp_path, capsys, arguments, words):
    given = [tiny_shards if one == "SHARDS" else one for one in arguments]
    assert ltrsys("bank", *given, "--out", tmp_path / "run") in (1, 2)
    said = capsys.readouterr().err.strip()
    assert words in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("label\na\nb\n", "holds 2 labels, and"),
        ("image,place\nx,y\n", "which column holds the labels? There are image, place"),
        ("label\na\n\nb\n", "holds 2 labels"),
        ("image,label\n1,a\n2,\n3,b\n", "line 3: the label is empty"),
    ],
)
def test_labels_that_do_not_fit_are_told(tmp_path, capsys, labels, words):
    np.save(tmp_path / "x.npy", np.zeros((3, 2), np.float32))
    (tmp_path / "y.csv").write_text(labels)
    options = ("--features", tmp_path / "x.npy", "--labels", tmp_path / "y.csv")
    assert ltrsys("bank", *options, "--out", tmp_path / "run") in (1, 2)
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
