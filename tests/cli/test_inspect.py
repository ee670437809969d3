"""`ltrsys inspect` as it is typed."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ltrsys.cli.main import main
from tests.data.servers import serving


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["inspect", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


def test_the_figures_are_those_of_the_dataset(tiny_shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = run(capsys, tiny_shards, "--json")
    summary = json.loads(printed)
    assert code == 0
    assert summary["num_classes"] == 12
    assert summary["classes"] == {"many": 1, "medium": 5, "few": 6}
    assert summary["verified"] is False
    train = summary["splits"]["train"]
    assert (train["images"], train["classes"]) == (425, 12)
    assert train["images_per_class"] == {"least": 3, "median": 21.0, "most": 120}
    assert sum(stratum["images"] for stratum in train["strata"]) == 425
    assert sum(stratum["classes"] for stratum in train["strata"]) == 12
    assert sum(stratum["shards"] for stratum in train["strata"]) == train["shards"]
    assert {name: split["images"] for name, split in summary["splits"].items()} == {
        "train": 425,
        "val": 120,
        "test": 240,
    }


def test_the_table_shows_splits_shots_and_strata(tiny_shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = run(capsys, tiny_shards, "--verify", "--workers", "1")
    assert code == 0
    assert "12 classes (1 many, 5 medium, 6 few-shot)" in printed
    assert "3 to 120, median 21" in printed
    assert "stratum" in printed
    assert "Verified: every checksum" in printed


def test_groups_can_be_moved(tiny_shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads(run(capsys, tiny_shards, "--json", "--many", "40", "--few", "10")[1])
    assert summary["classes"] == {"many": 4, "medium": 5, "few": 3}
    assert run(capsys, tiny_shards, "--many", "5", "--few", "10")[0] == 2


def test_the_long_tail_is_drawn(tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards, elsewhere = shutil.copytree(tiny_shards, tmp_path / "copy"), tmp_path / "new" / "tail.png"
    for path, options in ((shards / "long_tail.png", []), (elsewhere, ["--plot", elsewhere])):
        code, printed, _ = run(capsys, shards, "--json", *options)
        assert (code, json.loads(printed)["plot"]) == (0, str(path))
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 300


def test_shards_that_take_no_file_are_inspected_all_the_same(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    shards = shutil.copytree(tiny_shards, tmp_path / "copy")
    (shards / "long_tail.png").unlink(missing_ok=True)
    (shards / "long_tail.png").mkdir()
    code, printed, _ = run(capsys, shards, "--json")
    assert (code, json.loads(printed)["plot"]) == (0, None)
    assert "The long tail is not drawn; --plot names another place." in caplog.text
    assert run(capsys, shards, "--plot", shards / "long_tail.png")[0] == 1


def test_damage_is_one_line_and_exit_code_1(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_shards, tmp_path / "copy")
    for path in sorted((tmp_path / "copy/train/shards").iterdir())[:3]:
        path.unlink()
    code, printed, error = run(capsys, tmp_path / "copy", "--verify", "--json", "--workers", "1")
    assert (code, printed) == (1, "")
    assert error.count("\n") == 1
    assert "train-000000.tar: this shard, of samples 0 to 2, is missing" in error
    assert "2 more shards or splits have problems too" in error


def test_what_is_no_dataset_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(capsys, tmp_path)
    assert code == 1
    assert "there is no dataset index here. `ltrsys shards` makes one" in error
    assert error.count("\n") == 1


def test_a_url_is_inspected_like_a_folder(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tiny_shards) as server:
        code, printed, _ = run(capsys, server.url, "--json", "--cache", tmp_path / "cache")
        summary = json.loads(printed)
        assert (code, summary["folder"], summary["plot"]) == (0, server.url, None)
        assert not any(path.endswith(".tar") for path in server.requests)
        code, printed, _ = run(capsys, server.url, "--verify", "--workers", "1", "--cache", tmp_path / "cache")
        assert code == 0
        assert "Verified: every checksum" in printed
    local = json.loads(run(capsys, tiny_shards, "--json", "--plot", tmp_path / "tail.png")[1])
    assert {**summary, "folder": "", "plot": ""} == {**local, "folder": "", "plot": ""}


def test_a_url_without_shards_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path) as server:
        code, _, errors = run(capsys, f"{server.url}/nothing", "--cache", tmp_path / "cache")
    assert code == 1
    assert errors.startswith(f"ltrsys: {server.url}/nothing/dataset.json: there is no dataset index here.")
    assert errors.count("\n") == 1
