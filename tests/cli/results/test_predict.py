"""`ltrsys predict` from the command line."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ltrsys.data.index.dataset import Dataset
from ltrsys.runs.folder import RunFolder
from tests.cli.training.test_balance import ltrsys
from tests.conftest import TINY_COUNTS
from tests.prediction.conftest import _one_thread, again, labels, named, test_files

__all__ = ["_one_thread", "again", "labels", "named", "test_files"]

pytestmark = pytest.mark.long


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_first_column_is_the_ranking_of_evaluate(
    named: RunFolder, test_files: list[str], labels: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.txt").write_text("\n".join(test_files))
    for name in ("crt", "ncm"):
        out = tmp_path / f"{name}.csv"
        assert ltrsys("predict", named.path, tmp_path / "all.txt", "--classifier", name, "--out", out) == 0
        rows = [row for row in rows_of(out.read_text()) if row["rank"] == "1"]
        assert [row["path"] for row in rows] == test_files
        correct = np.array([int(row["class_id"]) for row in rows]) == labels
        capsys.readouterr()
        assert ltrsys("evaluate", named.path, "--classifier", name, "--json") == 0
        (line,) = json.loads(capsys.readouterr().out)["results"]
        assert 100 * correct.mean() == pytest.approx(line["all"])


def test_without_a_file_rows_go_to_standard_output(
    named: RunFolder, test_files: list[str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert ltrsys("predict", named.path, test_files[0], test_files[1], "--top", 2, "--classifier", "tau") == 0
    printed = capfdbinary.readouterr().out
    assert printed.count(b"\r\n") == 5
    rows = rows_of(printed.decode())
    assert [(row["path"], row["rank"]) for row in rows] == [
        (path, rank) for path in test_files[:2] for rank in ("1", "2")
    ]
    assert [int(row["train_images"]) for row in rows] == [TINY_COUNTS[int(row["class_id"])] for row in rows]


def test_on_a_terminal_names_are_for_people(named: RunFolder, test_files: list[str], tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    command = [str(Path(sys.executable).parent / "ltrsys"), "predict", str(named.path), test_files[0], str(text)]
    terminal, end = os.openpty()
    done = subprocess.run(command, stdout=end, stderr=subprocess.PIPE, check=True, timeout=300)
    os.close(end)
    printed = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert b"the classifier is crt" in done.stderr
    assert printed.startswith(test_files[0])
    assert printed.count("%") == 5
    assert "training images)" in printed
    assert "text.jpg\r\n     cannot be read: not an image of a known format" in printed


def test_a_list_of_species_and_their_frequencies_are_kept_to(
    named: RunFolder, test_files: list[str], tiny_shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = [record.name for record in Dataset.open(tiny_shards).record.classes]
    (tmp_path / "species.csv").write_text("name\n" + "\n".join(names[2:6]) + "\n")
    (tmp_path / "prior.csv").write_text("name,frequency\n" + "".join(f"{name},1\n" for name in names[4:8]))
    options = ["--species", tmp_path / "species.csv", "--prior", tmp_path / "prior.csv", "--classifier", "joint"]
    assert ltrsys("predict", named.path, test_files[0], *options) == 0
    rows = rows_of(capfd.readouterr().out)
    assert {int(row["class_id"]) for row in rows} == {4, 5}
    assert sum(float(row["probability"]) for row in rows) == pytest.approx(1, abs=1e-5)
    (tmp_path / "species.csv").write_text("name\nr\nrr\n")
    assert ltrsys("predict", named.path, test_files[0], *options) == 1
    assert "species.csv:3: `rr` is no class of this model. Did you mean r?" in capfd.readouterr().err


def test_the_frequencies_of_training_undo_the_balance_of_a_balanced_classifier(
    named: RunFolder, test_files: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    def first(*options: object) -> list[float]:
        assert ltrsys("predict", named.path, test_files[0], "--top", 12, *options) == 0
        rows = rows_of(capfd.readouterr().out)
        return [float(row["probability"]) for row in sorted(rows, key=lambda row: int(row["class_id"]))]

    plain, train = np.array(first()), np.array(first("--prior", "train"))
    expected = plain * TINY_COUNTS
    np.testing.assert_allclose(train, expected / expected.sum(), atol=2e-4)
    np.testing.assert_allclose(first("--prior", "uniform"), plain, atol=2e-6)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere.jpg"], 2, "`nowhere.jpg`: there is no such file or folder."),
        (["FILE", "--out", "a.xlsx"], 2, "--out a.xlsx: give it one of the endings .csv, .jsonl, .parquet."),
        (["FILE", "--classifier", "lws"], 2, "lws has not been fitted. Choose from joint, ncm, crt"),
        (["FILE", "--prior", "nowhere.csv"], 1, "nowhere.csv: there is no such list of classes."),
        (["FILE", "--species", "nowhere.csv"], 1, "nowhere.csv: there is no such list of classes."),
        (["FILE", "--top", "0"], 2, "Input should be greater than or equal to 1"),
        (["FILE", "--plugin", "nowhere.py"], 2, "there is no such file"),
        ([], 2, "Missing argument 'PATH...'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str],
    code: int,
    said: str,
    named: RunFolder,
    test_files: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [test_files[0] if argument == "FILE" else argument for argument in arguments]
    assert ltrsys("predict", named.path, *given) == code
    error = capsys.readouterr().err
    assert said in error
    assert "unexpected" not in error
    assert len(error.strip().splitlines()) <= 2


def test_a_folder_that_is_no_run_is_told(
    tmp_path: Path, test_files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ltrsys("predict", tmp_path, test_files[0]) == 2
    assert "unexpected" not in capsys.readouterr().err
