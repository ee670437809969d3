"""`ltrsys inspect` as it is typed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltrsys.cli.main import main
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.source import SOURCES, SourceOptions
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


def photographs(folder: Path) -> Path:
    """A folder of three classes whose files are of three formats, 10 to 50 pixels wide and 20 high, and one broken."""
    random = np.random.default_rng(0)
    for name, count in (("ash", 3), ("oak", 2), ("[b]yew & $x^2$", 1)):
        for number in range(count):
            path = folder / "train" / name / f"{number}.{('png', 'jpg', 'webp')[number]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(random.integers(0, 256, (20, 10 + 20 * number, 3), dtype=np.uint8))
            image.save(path)
    (folder / "val" / "ash").mkdir(parents=True)
    shutil.copy(folder / "train" / "ash" / "0.png", folder / "val" / "ash" / "again.png")
    (folder / "train" / "ash" / "broken.jpg").write_bytes(b"nothing")
    return folder


@pytest.fixture
def own_shards(tmp_path: Path) -> Path:
    """The shards of `photographs`, duplicates looked for."""
    source = SOURCES.get("folder").read(SourceOptions(photographs(tmp_path / "photographs"), {}, None, None, 0))
    build_shards(source, tmp_path / "own", BuildOptions(duplicates="report"), on_reject="list")
    return tmp_path / "own"


def test_sizes_formats_duplicates_and_what_was_left_out_are_told(
    own_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads(run(capsys, own_shards, "--json", "--smallest", "2")[1])
    train = summary["splits"]["train"]
    assert train["pixels"]["width"] == {"least": 10, "p5": 10, "median": 10, "p95": 50, "most": 50}
    assert train["pixels"]["short_side"] == {"least": 10, "p5": 10, "median": 10, "p95": 20, "most": 20}
    assert train["formats"] == {"PNG": 3, "JPEG": 2, "WEBP": 1}
    assert summary["duplicates"] == {"clusters": 1, "exact": 1, "near": 0, "images": 2, "dropped": 0}
    assert summary["rejected"] == {"images": 1, "reasons": {"not an image of a known format": 1}}
    assert [(entry["name"], entry["images"]) for entry in summary["smallest_classes"]] == [
        ("[b]yew & $x^2$", 1),
        ("oak", 2),
    ]
    printed = run(capsys, own_shards)[1]
    assert "10 / 10 / 50" in printed
    assert "Fewest training images: [b]yew & $x^2$ (1), oak (2), ash (3)." in printed
    assert "Left out: 1 image (1: " in printed
    assert "Duplicates across splits or classes: 2 images in 1 cluster (1 exact, 0 near), 0 dropped" in printed


def test_what_older_shards_do_not_tell_is_left_out(own_shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (*own_shards.glob("*/images.parquet"), own_shards / "duplicates.jsonl", own_shards / "build.json"):
        path.unlink()
    code, printed, _ = run(capsys, own_shards, "--json")
    summary = json.loads(printed)
    assert code == 0
    assert "duplicates" not in summary
    assert "formats" not in summary["splits"]["train"]
    assert "Duplicates" not in run(capsys, own_shards)[1]


@pytest.mark.parametrize("name", ["train/images.parquet", "duplicates.jsonl", "rejected.jsonl"])
def test_a_damaged_note_of_the_build_is_one_line(
    own_shards: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_shards / name).write_bytes(b"{\n[")
    code, printed, error = run(capsys, own_shards, "--json")
    assert (code, printed, error.count("\n")) == (1, "", 1)
    assert name in error
    assert "Remove" in error


def test_a_sheet_of_images_is_drawn(own_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    assert json.loads(run(capsys, own_shards, "--json", "--sheet", sheet)[1])["sheet"] == str(sheet)
    with Image.open(sheet) as image:
        assert image.format == "PNG"
    assert f"Images of its classes are drawn in {sheet}." in run(capsys, own_shards, "--sheet", sheet)[1]


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
    assert local.pop("rejected") == {"images": 0, "reasons": {}}
    for split in local["splits"].values():
        split.pop("formats")
    same = {"folder": "", "plot": ""}
    assert {**summary, **same} == {**local, **same}


def test_a_url_without_shards_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path) as server:
        code, _, errors = run(capsys, f"{server.url}/nothing", "--cache", tmp_path / "cache")
    assert code == 1
    assert errors.startswith(f"ltrsys: {server.url}/nothing/dataset.json: there is no dataset index here.")
    assert errors.count("\n") == 1
