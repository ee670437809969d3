"""List files, as ImageNet-LT and Places-LT have them, and as people write them."""

import logging
import re
import subprocess
import unicodedata
from pathlib import Path

import pytest

from ltrsys.data.sources.lists import read_lists
from ltrsys.data.sources.source import Source
from ltrsys.errors import DataError


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def read(root: Path, text: str, *, num_classes: int | None = None, keep_missing: bool = False) -> Source:
    lists = write(root / "list.txt", text)
    return read_lists(root, {"train": lists}, num_classes=num_classes, keep_missing=keep_missing)


def test_each_line_is_a_path_and_a_label(tmp_path: Path) -> None:
    touch(tmp_path, "train/n01440764/a.JPEG", "train/n02/b.JPEG", "val/c.JPEG")
    train = write(tmp_path / "train.txt", "train/n01440764/a.JPEG 0\ntrain/n02/b.JPEG 2\n")
    test = write(tmp_path / "test.txt", "val/c.JPEG 1\n")
    source = read_lists(tmp_path, {"train": train, "test": test})
    assert source.splits["train"].names == ["train/n01440764/a.JPEG", "train/n02/b.JPEG"]
    assert source.splits["train"].labels.tolist() == [0, 2]
    assert source.splits["test"].labels.tolist() == [1]
    assert len(source.classes) == 3


def test_windows_line_ends_a_byte_order_mark_and_empty_lines_change_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    plain = read(tmp_path, "a.jpg 0\nb.jpg 1\n")
    windows = read(tmp_path, "\ufeffa.jpg 0\r\n\r\nb.jpg\t1\r\n")
    assert windows.splits["train"].names == plain.splits["train"].names
    assert windows.splits["train"].labels.tolist() == [0, 1]


def test_blanks_belong_to_the_path(tmp_path: Path) -> None:
    touch(tmp_path, "a b/my  picture 7.jpg")
    source = read(tmp_path, "a b/my  picture 7.jpg 3\n", num_classes=4)
    assert source.splits["train"].names == ["a b/my  picture 7.jpg"]
    assert source.splits["train"].labels.tolist() == [3]


def test_images_are_read_below_the_root(tmp_path: Path) -> None:
    touch(tmp_path / "images", "a.jpg")
    source = read_lists(tmp_path / "images", {"train": write(tmp_path / "a.txt", "a.jpg 0\n")})
    assert source.read("a.jpg") == b"a.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg 0\nb.jpg\n", r"list.txt:2: `b.jpg` is not `path label`"),
        ("a.jpg 0\nb.jpg -1\n", r"list.txt:2: `b.jpg -1`: the label `-1` is not a whole number. Labels are 0, 1, 2"),
        ("a.jpg 0\nb.jpg 3.0\n", r"list.txt:2: `b.jpg 3.0`: the label `3.0` is not a whole number. Labels are 0, 1, 2"),
        ("a.jpg 1e3\n", r"list.txt:1: `a.jpg 1e3`: the label `1e3` is not a whole number"),
        ("a.jpg,3\n", r"list.txt:1: `a.jpg,3` is not `path label` with a label of 0 or more after a blank"),
        ("a.jpg zero\n", r"list.txt:1: `a.jpg zero` is not `path label`"),
        ("a.jpg 0\n\nb.jpg 9\n", r"list.txt:3: label 9 is out of range: with --num-classes 9 labels go from 0 to 8"),
        ("a.jpg 0\nb.jpg 1\na.jpg 2\n", r"list.txt:3: `a.jpg` is listed a second time, first at .*list.txt:1"),
        ("x/a.jpg 0\n./x//a.jpg 2\n", r"list.txt:2: `x/a.jpg` is listed a second time"),
        ("../a.jpg 0\n", r"list.txt:1: `../a.jpg` leads out of the root"),
        ("x/../../a.jpg 0\n", "leads out of the root"),
        ("/etc/passwd 0\n", "leads out of the root"),
        ("a.jpg 99999999999\n", "label 99999999999 is out of range"),
        (f"a.jpg {'9' * 5000}\n", "label 99999999999999999999 is out of range"),
        ("\n\n", "this list file is empty"),
        ("", "this list file is empty"),
        ("a.jpg 0\nb\0.jpg 1\n", r"list.txt:2: there is a NUL byte: this is no text, or a damaged one"),
        (f"{'x' * 9000} 0\n", r"list.txt:1: there is no `x{200}...` below"),
        ("a.jpg\x1b[31m\n", r"list.txt:1: `a.jpg\\x1b\[31m` is not `path label`"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "x/a.jpg")
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, text, num_classes=9)
    assert "\n" not in str(error.value)


def test_an_absurd_label_is_refused_without_num_classes_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list.txt:1: label 99999999999 is out of range"):
        read(tmp_path, "a.jpg 99999999999\n")


@pytest.mark.long
def test_a_label_far_above_the_others_is_an_error_unless_the_number_of_classes_was_given(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg", "1.jpg", "2.jpg", "3.jpg")
    text = "0.jpg 0\n1.jpg 1\n2.jpg 500000\n3.jpg 2\n"
    message = "list.txt:3: label 500000 would make 500001 classes, and only 4 of them have an image"
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, text)
    advised = re.search("--num-classes ([0-9]+)", str(error.value))
    assert advised is not None
    assert len(read(tmp_path, text, num_classes=int(advised[1])).classes) == 500_001


def test_gaps_among_the_labels_are_none_of_these_errors(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg", "1.jpg")
    assert len(read(tmp_path, "0.jpg 1\n1.jpg 3\n").classes) == 4


def test_an_image_of_two_splits_is_an_error_that_names_both_lines(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    train = write(tmp_path / "train.txt", "\na.jpg 0\n")
    test = write(tmp_path / "test.txt", "b.jpg 0\na.jpg 0\n")
    with pytest.raises(DataError, match=r"test.txt:2: `a.jpg` is listed a second time, first at .*train.txt:2"):
        read_lists(tmp_path, {"train": train, "test": test})
    write(test, "\nb.jpg 0\nb.jpg 0\n")
    with pytest.raises(DataError, match=r"test.txt:3: `b.jpg` is listed a second time, first at .*test.txt:2"):
        read_lists(tmp_path, {"train": train, "test": test})


def test_a_missing_list_or_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.txt: there is no such list file"):
        read_lists(tmp_path, {"train": tmp_path / "nowhere.txt"})
    with pytest.raises(DataError, match=r"nowhere: there is no such folder; --root names"):
        read_lists(tmp_path / "nowhere", {"train": write(tmp_path / "a.txt", "a.jpg 0\n")})
    with pytest.raises(DataError, match=r"cannot read this list file: Is a directory"):
        read_lists(tmp_path, {"train": tmp_path})


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("latin-1", r"my list.txt:2: this line is not UTF-8, and perhaps Latin-1"),
        ("utf-16", r"my list.txt:1: this list file is UTF-16"),
        ("utf-16-le", r"my list.txt:1: there are NUL bytes: this is UTF-16"),
        ("utf-16-be", r"my list.txt:1: there are NUL bytes: this is UTF-16"),
    ],
)
def test_a_list_in_another_encoding_is_refused_and_the_command_that_is_named_mends_it(
    tmp_path: Path, encoding: str, message: str
) -> None:
    touch(tmp_path, "a.jpg", "grün.jpg")
    path = tmp_path / "my list.txt"
    path.write_bytes("a.jpg 0\ngrün.jpg 1\n".encode(encoding))
    with pytest.raises(DataError, match=message) as error:
        read_lists(tmp_path, {"train": path})
    command = str(error.value).split("Turn it into UTF-8: ")[1]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    mended = read_lists(tmp_path, {"train": tmp_path / "my list_utf8.txt"})
    assert mended.splits["train"].names == ["a.jpg", "grün.jpg"]


def spellings(root: Path) -> dict[str, str]:
    return {
        "backslashes": "acer\\sugar maple\\0.jpg",
        "absolute": f"{root}/acer/sugar maple/0.jpg",
        "absolute through a link": f"{root.parent}/link/acer/sugar maple/0.jpg",
        "URL-encoded": "acer/sugar%20maple/0.jpg",
        "URL-encoded with backslashes": "acer\\sugar%20maple\\0.jpg",
        "another case of the ending": "acer/sugar maple/0.JPG",
        "another case of a folder": "Acer/Sugar Maple/0.jpg",
        "with a dot": "./acer//sugar maple/./0.jpg",
        "all of it": "Acer\\Sugar%20maple\\0.Jpg",
    }


@pytest.mark.parametrize("how", spellings(Path()))
def test_a_path_is_taken_however_it_is_spelled(tmp_path: Path, how: str) -> None:
    root = tmp_path / "root"
    touch(root, "acer/sugar maple/0.jpg", "acer/sugar maple/1.jpg")
    (tmp_path / "link").symlink_to(root)
    source = read(root, f"{spellings(root)[how]} 0\n")
    assert source.splits["train"].names == ["acer/sugar maple/0.jpg"]
    assert source.read(source.splits["train"].names[0])


def test_an_absolute_path_is_taken_below_a_root_that_is_a_link_or_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "real", "a/0.jpg")
    (tmp_path / "root").symlink_to(tmp_path / "real")
    text = f"{tmp_path}/real/a/0.jpg 0\n"
    assert read(tmp_path / "root", text).splits["train"].names == ["a/0.jpg"]
    monkeypatch.chdir(tmp_path / "real")
    assert read(Path("."), text).splits["train"].names == ["a/0.jpg"]


def test_letters_with_accents_are_found_however_a_system_composes_them(tmp_path: Path) -> None:
    touch(tmp_path, unicodedata.normalize("NFD", "grün.jpg"))
    source = read(tmp_path, unicodedata.normalize("NFC", "grün.jpg") + " 0\n")
    assert source.read(source.splits["train"].names[0])


def test_a_name_with_a_backslash_or_a_percent_sign_stays_what_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "a\\0.jpg", "a/0.jpg", "a%20b.jpg", "a b.jpg")
    source = read(tmp_path, "a\\0.jpg 0\na%20b.jpg 0\n")
    assert source.splits["train"].names == ["a\\0.jpg", "a%20b.jpg"]


def test_a_name_that_two_files_could_be_in_another_case_is_none_of_them(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "A.jpg")
    with pytest.raises(DataError, match=r"list.txt:1: there is no `a.JPG` below"):
        read(tmp_path, "a.JPG 0\n")


def test_two_spellings_of_one_image_are_a_second_time(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.jpg")
    with pytest.raises(DataError, match=r"list.txt:2: `a/0.jpg` is listed a second time, first at .*list.txt:1"):
        read(tmp_path, "a/0.jpg 0\na\\0.JPG 0\n")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("acer/rubra.jpg", r"there is no `acer/rubra.jpg` below .*; the nearest name there is `acer/rubrum.jpg`"),
        ("acre/rubrum.jpg", r"the nearest name there is `acer`"),
        ("acer\\rubra.jpg", r"with `/` for its backslashes or without; the nearest name there is `acer/rubrum.jpg`"),
        ("images/acer/rubrum.jpg", r"its end, `acer/rubrum.jpg`, is there"),
        ("C:\\data\\acer\\rubrum.jpg", r"its end, `acer/rubrum.jpg`, is there"),
        ("/home/ann/acer/rubrum.jpg", r"leads out of the root. .*Its end, `acer/rubrum.jpg`, is there: list that"),
        ("acer", r"there is no `acer` below .*; it is a folder"),
        ("acer/rubrum.jpg/x.jpg", r"there is no `acer/rubrum.jpg/x.jpg` below"),
    ],
)
def test_a_path_that_leads_nowhere_is_an_error_with_a_hint_that_works(
    tmp_path: Path, listed: str, message: str
) -> None:
    touch(tmp_path, "acer/rubrum.jpg", "quercus/robur.jpg")
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, f"quercus/robur.jpg 0\n{listed} 0\n")
    assert "list.txt:2: " in str(error.value)
    hinted = re.search(r"(?:there is|its end,|Its end,) `(acer/rubrum.jpg)`", str(error.value))
    if hinted is not None:
        assert len(read(tmp_path, f"{hinted[1]} 0\n").splits["train"]) == 1


def test_paths_that_lead_nowhere_are_counted_and_kept_where_the_build_is_to_list_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.jpg")
    text = "x.jpg 0\na.jpg 0\ny.jpg 0\n"
    with pytest.raises(DataError, match=r"list.txt:1: .*\(2 of 3 paths of this file lead nowhere\).*--on-reject list"):
        read(tmp_path, text)
    with caplog.at_level(logging.WARNING, "ltrsys"):
        source = read(tmp_path, text, keep_missing=True)
    assert "list.txt:1: there is no `x.jpg` below" in caplog.text
    assert source.splits["train"].names == ["x.jpg", "a.jpg", "y.jpg"]
    with pytest.raises(FileNotFoundError):
        source.read("x.jpg")
