"""`ltrsys shards` as it is typed."""

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from ltrsys.cli.data.shards import shards
from ltrsys.cli.main import main
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.shards.build_folder import BuildOptions
from tests.data.sources.image_server import Answer, ImageServer, image_server


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["shards", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


@pytest.fixture
def images_online() -> Iterator[ImageServer]:
    with image_server() as server:
        yield server


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (40, 30), (9 * number, 99 * label, 0)).save(tmp_path / "photos" / name / f"{number}.jpg")
    return tmp_path / "photos"


def test_a_folder_becomes_shards(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ("folder", "--root", photos, "--out", out, "--resize", "20", "--workers", "1", "--name", "insects")
    code, printed, _ = run(capsys, *arguments)
    assert code == 0
    assert f"{out}: 2 classes; images: train 24." in printed
    record = Dataset.open(out).record
    assert (record.name, record.source, record.resize) == ("insects", "folder", 20)
    assert run(capsys, *arguments)[0] == 0, "the same command again has nothing to do"


def test_any_source_can_be_cut_to_a_long_tail(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("folder", "--root", photos, "--workers", "1", "--long-tail")
    assert run(capsys, *common, "pareto", "--min-count", "3", "--max-count", "9", "--out", tmp_path / "a")[0] == 0
    assert sorted(Dataset.open(tmp_path / "a").split("train").class_counts) == [3, 9]
    (tmp_path / "counts.json").write_text("[2, 11]")
    assert run(capsys, *common, tmp_path / "counts.json", "--out", tmp_path / "b")[0] == 0
    assert Dataset.open(tmp_path / "b").split("train").class_counts.tolist() == [2, 11]


def test_glyphs_are_long_tailed_unless_told_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    glyphs = ("glyphs", "--num-classes", "3", "--max-count", "20", "--workers", "1")
    run(capsys, *glyphs, "--out", tmp_path / "a")
    assert sorted(Dataset.open(tmp_path / "a").split("train").class_counts) == [5, 10, 20]
    run(capsys, *glyphs, "--long-tail", "none", "--out", tmp_path / "b")
    assert Dataset.open(tmp_path / "b").split("train").class_counts.tolist() == [20, 20, 20]


def test_lists_name_their_files(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.txt").write_text("ant/0.jpg 0\nbee/0.jpg 1\n")
    (tmp_path / "test.txt").write_text("bee/1.jpg 1\n")
    files = ("--train", tmp_path / "train.txt", "--test", tmp_path / "test.txt")
    code, printed, _ = run(capsys, "lists", "--root", photos, *files, "--out", tmp_path / "out", "--workers", "1")
    assert (code, "train 2, test 1" in printed) == (0, True)


def test_a_table_names_its_columns(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        f"{name}/{number}.jpg;{name};{'test' if number > 9 else 'train'};Ann"
        for name in ("ant", "bee")
        for number in range(12)
    ]
    (tmp_path / "my.csv").write_text("\n".join(["photo;insect;part;by", *rows]))
    columns = "path=photo,name=insect,split=part,rights_holder=by"
    table = ("table", "--root", photos, "--table", tmp_path / "my.csv", "--out", tmp_path / "out", "--workers", "1")
    code, printed, _ = run(capsys, *table, "--columns", columns)
    assert (code, "2 classes; images: train 20, test 4." in printed) == (0, True)
    assert "bee/3.jpg,,Ann" in (tmp_path / "out" / "attribution.csv").read_text()


def test_images_of_a_table_may_be_fetched(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], images_online: ImageServer
) -> None:
    urls = [
        images_online.give(f"/{name}{number}", Answer((photos / name / f"{number}.jpg").read_bytes()))
        for name in ("ant", "bee")
        for number in range(3)
    ]
    train = tmp_path / "train.tsv"
    train.write_text("\n".join(["url\tclass", *(f"{url}\t{place // 3}" for place, url in enumerate(urls))]))
    fetched = ("--images", tmp_path / "fetched", "--requests-per-second", "1000", "--connections", "1")
    table = ("table", "--train", train, *fetched, "--workers", "1", "--out")
    code, printed, _ = run(capsys, *table, tmp_path / "out")
    assert (code, "2 classes; images: train 6." in printed) == (0, True)
    assert Dataset.open(tmp_path / "out").record.name == "train"
    assert run(capsys, *table, tmp_path / "again")[0] == 0
    assert sum(images_online.requests.values()) == 6, "nothing is fetched twice"


def test_images_that_are_missing_are_an_error_or_listed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.txt").write_text("ant/0.jpg 0\nant/99.jpg 0\nbee/0.jpg 1\n")
    arguments = (
        "lists",
        "--root",
        photos,
        "--train",
        tmp_path / "train.txt",
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
    )
    code, _, error = run(capsys, *arguments)
    assert (code, "train.txt:2: there is no `ant/99.jpg`" in error, "--on-reject list" in error) == (1, True, True)
    assert run(capsys, *arguments, "--on-reject", "list")[0] == 0
    assert '"ant/99.jpg"' in (tmp_path / "out/rejected.jsonl").read_text()


def test_annotations_are_read_as_the_options_say(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {
        "images": [{"id": number, "file_name": f"ant/{number}.jpg"} for number in range(3)],
        "annotations": [{"image_id": image, "category_id": image} for image in range(3)]
        + [{"image_id": 2, "category_id": 1}],
        "categories": [{"id": 0, "name": "ant"}, {"id": 1, "name": "bee"}, {"id": 2, "name": "ant"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    arguments = ["inaturalist", "--root", photos, "--train", tmp_path / "train.json", "--workers", "1"]
    arguments += ["--out", tmp_path / "out"]
    code, _, error = run(capsys, *arguments)
    assert (code, "with --merge-classes" in error) == (1, True)
    arguments.append("--merge-classes")
    code, _, error = run(capsys, *arguments)
    assert (code, "with --ambiguous skip" in error) == (1, True)
    code, printed, _ = run(capsys, *arguments, "--ambiguous", "skip")
    assert (code, "2 classes; images: train 2." in printed) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["folder"], "folder needs --root"),
        (["lists", "--root", "."], "lists needs --train LIST"),
        (["lists", "--root", ".", "--test", "x"], "--train is missing"),
        (["glyphs", "--root", "."], "glyphs needs no files"),
        (["folder", "--root", ".", "--train", "x"], "leave out --train"),
        (["folder", "--root", ".", "--merge-classes"], "--merge-classes is for the annotations of inaturalist"),
        (["lists", "--root", ".", "--ambiguous", "skip"], "--ambiguous is for the annotations of inaturalist"),
        (["glyphs", "--merge-classes"], "glyphs has none"),
        (["digits", "--num-classes", "11"], "--num-classes 11: there are ten digits"),
        (["digits", "--long-tail", "zipf"], "--long-tail zipf: expected none"),
        (["table"], "table needs --table FILE, or --train FILE"),
        (["table", "--columns", "pth=x"], "--columns: a column cannot be `pth`; did you mean path"),
        (
            ["table", "--preset", "gbif"],
            "--preset `gbif`: there is none; expected inaturalist_open_data or",
        ),
        (["table", "--quality-grade", "good"], "Invalid value for .--quality-grade"),
        (["folder", "--root", ".", "--table", "x.csv"], "--table is for the source table; folder has none"),
        (["photos"], "`photos`: unknown source. Choose from inaturalist, lists, table, folder, digits, glyphs."),
        (["foldr"], "`foldr`: unknown source. Did you mean folder?"),
        (["digits", "--resize", "0"], "Invalid value for .--resize.*1"),
        (["digits", "--wrokers", "2"], "No such option: --wrokers"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, printed, error = run(capsys, *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert printed == ""
    assert error.startswith("ltrsys: ")
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not (tmp_path / "out").exists()


def test_a_bad_image_is_one_line_and_exit_code_1(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bee" / "3.jpg").write_bytes(b"\xff\xd8 and no more")
    code, _, error = run(capsys, "folder", "--root", photos, "--out", tmp_path / "out", "--workers", "1")
    assert code == 1
    assert error.count("\n") == 1
    assert "bee/3.jpg: " in error
    code, printed, _ = run(
        capsys, "folder", "--root", photos, "--out", tmp_path / "out", "--workers", "1", "--on-reject", "list"
    )
    assert (code, "train 23" in printed) == (0, True)


PLAIN = [option for option in fields(BuildOptions) if option.name not in ("val", "test", "duplicates")]


@pytest.mark.parametrize("option", PLAIN, ids=lambda option: option.name)
def test_an_option_that_is_not_given_is_what_the_library_takes(option) -> None:
    assert inspect.signature(shards).parameters[option.name].default == option.default


def test_shares_make_splits_and_without_any_it_is_said_at_once(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    common = ("folder", "--root", photos, "--out", tmp_path / "out", "--workers", "1")
    _, printed, _ = run(capsys, *common)
    assert "images: train 24." in printed
    assert "neither a val nor a test split" in caplog.text
    assert "--update --val 0.1 --test 0.1" in caplog.text
    caplog.clear()
    assert run(capsys, *common, "--update", "--val", "0.1", "--test", "0.1")[0] == 0  # as the message says
    dataset = Dataset.open(tmp_path / "out")
    assert all(0 < len(dataset.split(name)) < 22 for name in ("train", "val", "test"))
    assert sum(len(dataset.split(name)) for name in ("train", "val", "test")) == 24
    assert "neither" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--val", "0.5", "--test", "0.6"], "nothing is left to train on"),
        (["--val", "1.5"], "a share is a number from 0 to below 1"),
        (["--val", "0.1", "--group-by", "location"], "the source has no such column"),
        (["--val", "val.txt"], "leave out --train, --val and --test"),
        (["--update"], "there is nothing to update here. Leave out --update"),
        (["--classes-from", "nowhere"], "neither a run folder nor a folder of shards"),
    ],
)
def test_a_wrong_wish_for_splits_is_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, printed, error = run(capsys, "folder", "--root", photos, "--out", tmp_path / "out", *arguments)
    assert code in (1, 2)
    assert (printed, error.count("\n")) == ("", 1)
    assert message in error


def test_classes_from_keeps_the_ids_of_other_shards(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("folder", "--root", photos, "--workers", "1")
    run(capsys, *common, "--out", tmp_path / "before")
    (photos / "aardvark").mkdir()
    Image.new("RGB", (40, 30)).save(photos / "aardvark" / "0.jpg")
    assert run(capsys, *common, "--out", tmp_path / "after", "--classes-from", tmp_path / "before")[0] == 0
    assert [record.name for record in Dataset.open(tmp_path / "after").record.classes] == ["ant", "bee", "aardvark"]
