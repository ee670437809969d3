"""`ltrsys compare` from end to end: the same images, in whatever order, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ltrsys.cli.main import main
from ltrsys.comparison.comparing import Comparison
from ltrsys.data.index.columns import COLUMNS, column_path
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.glyphs import read_glyphs
from ltrsys.data.sources.long_tail import cut_to_long_tail
from ltrsys.evaluation.balanced_run import BalancedRun
from ltrsys.files import write_array
from ltrsys.runs.folder import RunFolder
from tests.classifiers.runs import make_run
from tests.conftest import TINY_COUNTS

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]


def ltrsys(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def balanced(folder: Path, shards: Path, head: str = "linear") -> RunFolder:
    run = make_run(folder, shards, head)
    assert ltrsys("balance", folder, "balance.tilt_grid=[]", "--classifiers", "joint,ncm") == 0
    return run


def glyphs(folder: Path, counts: list[int], seed: int = 0) -> Path:
    """Build shards of the same classes as the tiny ones."""
    folder.mkdir()
    (folder / "counts.json").write_text(json.dumps(counts))
    source = read_glyphs(num_classes=len(counts), seed=seed, train_per_class=max(counts))
    build_shards(cut_to_long_tail(source, str(folder / "counts.json"), seed=0), folder / "shards")
    return folder / "shards"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path) -> RunFolder:
    return balanced(tmp_path_factory.mktemp("runs") / "first", tiny_shards)


@pytest.fixture(scope="module")
def other_training_images(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on the same test images, its frequent classes being the other's rare ones."""
    folder = tmp_path_factory.mktemp("other")
    return balanced(folder / "reversed", glyphs(folder / "data", TINY_COUNTS[::-1]))


def compared(capsys: pytest.CaptureFixture[str], *arguments: object) -> Comparison:
    capsys.readouterr()
    assert ltrsys("compare", *arguments, "--json") == 0
    return Comparison.model_validate_json(capsys.readouterr().out)


def test_the_same_model_on_images_in_another_order_is_the_same(
    first: RunFolder, tmp_path: Path, tiny_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both networks are as initialised with one seed, so that `ncm` gives each image the same class."""
    shards = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    order = np.random.default_rng(0).permutation(240)
    for name in COLUMNS:
        path = column_path(shards / "test", name)
        write_array(path, np.lib.format.open_memmap(path, mode="r")[order])
    shuffled = balanced(tmp_path / "shuffled", shards)
    runs = [BalancedRun.open(run.path) for run in (first, shuffled)]
    hits = [run.predictions.of(run.fitted["ncm"]) == run.reported.split.labels for run in runs]
    assert not np.array_equal(*hits), "or there would be nothing to put in order"
    (pair,) = compared(capsys, first.path, shuffled.path, "--classifier", "ncm").pairs
    assert (pair.gained, pair.lost) == (0, 0)


def test_other_training_images_are_said(
    first: RunFolder, other_training_images: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compared(capsys, first.path, other_training_images.path, "--classifier", "joint")
    assert found.images == 240
    assert "with another number of training images" in found.notes[0]
    assert "not in" in found.notes[1], "the groups of classes are others"


def test_runs_are_compared_by_each_classifier(
    first: RunFolder, tmp_path: Path, tiny_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = balanced(tmp_path / "second", tiny_shards, head="cosine")
    found = compared(capsys, first.path, second.path)
    assert [(pair.classifier, pair.first, pair.second) for pair in found.pairs] == [
        ("joint", "first", "second"),
        ("ncm", "first", "second"),
    ]
    assert found.notes == []
    for pair in found.pairs:
        accuracy = [line.accuracy for line in found.lines if line.classifier == pair.classifier]
        for column, difference in pair.differences.items():
            assert difference is not None
            assert difference.difference == pytest.approx(accuracy[1][column] - accuracy[0][column])
    assert ltrsys("compare", first.path, second.path) == 0
    told = capsys.readouterr().out
    for text in ("second less first", "McNemar", "randomisation test", "Holm", "the same 240 images"):
        assert text in " ".join(told.split())


@pytest.fixture
def copy(first: RunFolder, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(first.path, tmp_path / name))


def test_other_images_are_refused_by_name(
    first: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_shards: Path
) -> None:
    shards = glyphs(tmp_path / "data", TINY_COUNTS, seed=1)
    record = json.loads((shards / "dataset.json").read_text())
    record["classes"] = json.loads((tiny_shards / "dataset.json").read_text())["classes"]
    (shards / "dataset.json").write_text(json.dumps(record))
    other = balanced(tmp_path / "other", shards)
    capsys.readouterr()
    assert ltrsys("compare", first.path, other.path) == 2
    told = capsys.readouterr().err
    assert f"{other.path}: it is reported on other images than {first.path}" in told
    assert "have 0 in common" in told
    assert told.count("\n") == 1


def test_other_classes_are_refused_by_name(
    first: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = balanced(tmp_path / "other", glyphs(tmp_path / "data", TINY_COUNTS[:10]))
    capsys.readouterr()
    assert ltrsys("compare", first.path, other.path) == 2
    told = capsys.readouterr().err
    assert f"{other.path} has other classes than {first.path}" in told
    assert "2 classes removed" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FIRST"], "needs two runs or more"),
        (["FIRST", "FIRST"], "needs two runs or more"),
        (["balance.classifiers=[joint]"], "no run is named"),
        (["FIRST", "COPY", "--classifier", "crt"], "first: crt is not in its results"),
        (["FIRST", "COPY", "--classifier", "nmc"], "unknown classifier. Did you mean ncm?"),
        (["FIRST", "missing"], "missing: not a run folder"),
        (["FIRST", "COPY", "train.epochs=3"], "after training only these may be changed"),
    ],
)
def test_what_cannot_be_compared_is_told_in_a_line(
    first: RunFolder,
    copy: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    places = {"FIRST": str(first.path), "COPY": str(copy("copy"))}
    capsys.readouterr()
    assert ltrsys("compare", *(places.get(one, one) for one in arguments)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
