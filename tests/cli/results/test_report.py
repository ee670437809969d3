"""`ltrsys report` as it is typed: where the page goes, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ltrsys.cli.main import main
from ltrsys.runs.folder import RunFolder
from tests.classifiers.runs import make_run

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]


def ltrsys(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path) -> RunFolder:
    run = make_run(tmp_path_factory.mktemp("runs") / "balanced", tiny_shards)
    assert ltrsys("balance", run.path, "balance.tilt_grid=[]", "--classifiers", "joint,tau") == 0
    return run


@pytest.fixture
def again(balanced: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy, to change."""
    return RunFolder(Path(shutil.copytree(balanced.path, tmp_path / "again")))


def test_it_is_written_into_the_run_or_where_it_is_wanted(
    again: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ltrsys("report", again.path) == 0
    assert str(again.page) in capsys.readouterr().out
    shown = again.page.read_text()
    assert "data:image/webp;base64," in shown
    out = tmp_path / "new" / "page.html"
    assert ltrsys("report", again.path, "--out", out, "--no-pictures") == 0
    assert "data:image/webp;base64," not in out.read_text()


def test_it_computes_no_prediction_again(again: RunFolder) -> None:
    before = {path: path.stat().st_mtime_ns for path in again.predictions.iterdir()}
    assert {path.name for path in before} == {f"test-{name}.safetensors" for name in ("joint", "tau", "by_tau")}
    assert ltrsys("report", again.path) == 0
    assert {path: path.stat().st_mtime_ns for path in again.predictions.iterdir()} == before


def test_a_run_that_was_balanced_before_predictions_were_kept_has_the_same_page(again: RunFolder) -> None:
    assert ltrsys("report", again.path) == 0
    page = again.page.read_text()
    shutil.rmtree(again.predictions)
    assert ltrsys("report", again.path) == 0
    assert again.page.read_text() == page


def test_shards_may_be_elsewhere(again: RunFolder, tiny_shards: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(tiny_shards, tmp_path / "moved"))
    assert ltrsys("report", again.path, f"data.shards={moved}") == 0
    assert str(moved) in again.page.read_text()


def _remove_results(run: RunFolder) -> None:
    run.results.unlink()


def _remove_model(run: RunFolder) -> None:
    run.model.unlink()


def _other_line(run: RunFolder) -> None:
    results = json.loads(run.results.read_text())
    results["results"][-1]["fingerprint"] = "0" * 64
    run.results.write_text(json.dumps(results))


def _damaged_classifier(run: RunFolder) -> None:
    (run.classifiers / "tau.safetensors").write_bytes(b"damaged")


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        (_remove_results, "there is no file of results here. `ltrsys balance` makes one", 1),
        (_remove_model, "training has not finished", 2),
        (_other_line, "the line of tau is out of date", 1),
        (_damaged_classifier, "tau.safetensors: not a saved classifier", 1),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(
    again: RunFolder,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[RunFolder], None],
    message: str,
    code: int,
) -> None:
    change(again)
    capsys.readouterr()
    assert ltrsys("report", again.path) == code
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not again.page.exists()
