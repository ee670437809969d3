"""`ltrsys add-class` from end to end: new classes from a few pictures each, on a real run."""

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from ltrsys.cli.main import main
from ltrsys.data.index.dataset import Dataset
from ltrsys.prediction.predictor import Predictor
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trained_on import keep_record
from tests.classifiers.runs import make_run
from tests.conftest import on_one_thread

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]

ABLE = ("ncm", "lda", "knn")


def ltrsys(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


@pytest.fixture(scope="module")
def balanced(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "run", tiny_shards)
    keep_record(run, Dataset.open(tiny_shards))
    with on_one_thread():
        assert ltrsys("balance", run.path, "--classifiers", ",".join([*ABLE, "crt"])) == 0
    return run.path


@pytest.fixture
def run(balanced: Path, tmp_path: Path) -> Path:
    """A copy, as far as anything is written."""
    copy = tmp_path / "run"
    copy.mkdir()
    for path in balanced.iterdir():
        (copy / path.name).symlink_to(path)
    return copy


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds that are no letters: bars and discs, four pictures each."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(4):
        for kind in ("bars", "discs"):
            image = Image.new("RGB", (32, 32), "white" if kind == "bars" else "navy")
            draw = ImageDraw.Draw(image)
            if kind == "bars":
                for left in range(2, 32, 8):
                    draw.rectangle((left, 0, left + 3, 31 - number), fill="red")
            else:
                draw.ellipse((4, 4, 26, 24 + number % 2), fill="yellow")
            (folder / kind).mkdir(exist_ok=True)
            image.save(folder / kind / f"{number}.png")
    return folder


def scores(run: Path, classifier: str, folder: Path) -> torch.Tensor:
    with Predictor.load(run, classifier=classifier, device="cpu") as predictor:
        return predictor.scores(sorted(folder.rglob("*.png")))


@pytest.mark.parametrize("classifier", ABLE)
def test_new_classes_are_named_and_one_by_one_gives_the_same_as_all_at_once(
    balanced, run, pictures, tmp_path, classifier
):
    before = scores(run, classifier, pictures)
    assert ltrsys("add-class", run, pictures / "bars", pictures / "discs") == 0
    at_once = scores(run, classifier, pictures)
    assert at_once.shape == (8, before.shape[1] + 2)
    new = torch.tensor([before.shape[1]] * 4 + [before.shape[1] + 1] * 4)
    # of 20 neighbours at most 4 can be of a new class
    assert (at_once.argmax(dim=1) == new).sum() >= (4 if classifier == "knn" else 8)
    (run / "added_classes.safetensors").unlink()
    few = tmp_path / "discs"
    few.mkdir()
    for name in ("0.png", "1.png"):
        (few / name).write_bytes((pictures / "discs" / name).read_bytes())
    assert ltrsys("add-class", run, pictures / "bars") == 0
    assert ltrsys("add-class", run, few) == 0
    assert ltrsys("add-class", run, pictures / "discs") == 0  # two of its pictures are known by now
    torch.testing.assert_close(scores(run, classifier, pictures), at_once, rtol=1e-5, atol=1e-5)
    assert not (balanced / "added_classes.safetensors").exists()


def test_predictions_name_them_and_the_other_classifiers_say_that_they_do_not(run, pictures, tmp_path, capsys, caplog):
    assert ltrsys("add-class", run, pictures / "bars", pictures / "discs") == 0
    assert "ncm, lda, knn know bars (4 pictures), discs (2 pictures)" in capsys.readouterr().out
    out = tmp_path / "names.csv"
    assert ltrsys("predict", run, pictures, "--top", "1", "--coverage", "0.9", "--novelty", "--out", out) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["class_name"] for row in rows} <= {"bars", "discs"}
    assert ltrsys("predict", run, pictures, "--classifier", "crt", "--out", tmp_path / "crt.csv") == 0
    assert "crt does not know the classes that were added since (bars, discs)" in caplog.text


def test_predictions_that_were_begun_without_the_new_classes_are_not_gone_on_with(run, pictures, tmp_path, capsys):
    options = ("predict", run, pictures, "--classifier", "ncm", "--out", tmp_path / "names.csv")
    assert ltrsys(*options) == 0
    assert ltrsys("add-class", run, pictures / "bars") == 0
    assert ltrsys(*options) == 2
    assert "there are predictions already" in capsys.readouterr().err


def test_an_export_knows_them_too(run, pictures, tmp_path, capsys):
    assert ltrsys("add-class", run, pictures / "bars") == 0
    assert ltrsys("export", run, "--format", "torch", "--classifier", "ncm", "--out", tmp_path / "export") == 0
    assert "bars" in (tmp_path / "export" / "classes.csv").read_text()


def test_a_bank_that_is_made_otherwise_needs_them_again(run, pictures, capsys, tiny_shards):
    assert ltrsys("add-class", run, pictures / "bars") == 0
    for name in ("features", "classifiers", "calibration", "predictions", "report", "results.json"):
        (run / name).unlink()  # the links: the run balances anew, and the one that others use stays
    assert ltrsys("balance", run, "--classifiers", "ncm", "bank.views=flip") == 0
    assert ltrsys("predict", run, pictures, "--out", run / "names.csv") == 1
    said = capsys.readouterr().err
    assert "Remove added_classes.safetensors from the run folder, and add them again." in said
    (run / "added_classes.safetensors").unlink()
    assert ltrsys("add-class", run, pictures / "bars") == 0
    assert ltrsys("predict", run, pictures, "--out", run / "names.csv") == 0


def test_wrong_input_is_told_and_changes_nothing(run, pictures, tmp_path, capsys):
    letter = Dataset.open(load_shards(run)).record.classes[3].name
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "bars").mkdir()
    (tmp_path / "bars" / "x.png").write_bytes((pictures / "bars" / "0.png").read_bytes())
    for arguments, words in {
        (tmp_path / "none",): "there is no such folder",
        (tmp_path / "empty",): "there is no picture in this folder",
        (tmp_path / "broken",): "x.png: ",
        (pictures / "bars", tmp_path / "bars"): "bars: two folders have this name",
        (pictures / "bars", pictures / "discs", "--name", "x"): "--name x is for one folder",
        (pictures / "bars", "--name", letter): "was trained with a class of this name",
    }.items():
        assert ltrsys("add-class", run, *arguments) in (1, 2)
        assert words in capsys.readouterr().err
        assert not (run / "added_classes.safetensors").exists()


def test_a_run_of_which_no_classifier_can_is_told_what_to_fit(balanced, tmp_path, pictures, capsys):
    run = tmp_path / "run"
    (run / "classifiers").mkdir(parents=True)
    for path in balanced.iterdir():
        if path.name != "classifiers":
            (run / path.name).symlink_to(path)
    assert ltrsys("add-class", run, pictures / "bars") == 2
    assert f"Run `ltrsys balance {run} --classifiers ncm` first." in capsys.readouterr().err


def load_shards(run: Path) -> Path:
    from ltrsys.config.reading import load_run_config

    return Path(load_run_config(RunFolder(run)).data.shards)
