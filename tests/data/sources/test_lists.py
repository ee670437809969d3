"""List files, as ImageNet-LT and Places-LT have them."""

from pathlib import Path

import pytest

from ltrsys.data.sources.lists import read_lists
from ltrsys.errors import DataError


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_each_line_is_a_path_and_a_label(tmp_path: Path) -> None:
    train = write(tmp_path / "train.txt", "train/n01440764/a.JPEG 0\ntrain/n02/b.JPEG 2\n")
    test = write(tmp_path / "test.txt", "val/c.JPEG 1\n")
    source = read_lists(tmp_path, {"train": train, "test": test})
    assert source.splits["train"].names == ["train/n01440764/a.JPEG", "train/n02/b.JPEG"]
    assert source.splits["train"].labels.tolist() == [0, 2]
    assert source.splits["test"].labels.tolist() == [1]
    assert len(source.classes) == 3


def test_windows_line_ends_a_byte_order_mark_and_empty_lines_change_nothing(tmp_path: Path) -> None:
    plain = read_lists(tmp_path, {"train": write(tmp_path / "a.txt", "a.jpg 0\nb.jpg 1\n")})
    windows = read_lists(tmp_path, {"train": write(tmp_path / "b.txt", "\ufeffa.jpg 0\r\n\r\nb.jpg\t1\r\n")})
    assert windows.splits["train"].names == plain.splits["train"].names
    assert windows.splits["train"].labels.tolist() == [0, 1]


def test_blanks_belong_to_the_path(tmp_path: Path) -> None:
    source = read_lists(tmp_path, {"train": write(tmp_path / "a.txt", "a b/my  picture 7.jpg 3\n")})
    assert source.splits["train"].names == ["a b/my  picture 7.jpg"]
    assert source.splits["train"].labels.tolist() == [3]


def test_images_are_read_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"bytes")
    source = read_lists(tmp_path / "images", {"train": write(tmp_path / "a.txt", "a.jpg 0\n")})
    assert source.read("a.jpg") == b"bytes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg 0\nb.jpg\n", r"list.txt:2: `b.jpg` is not `path label`"),
        ("a.jpg 0\nb.jpg -1\n", r"list.txt:2: `b.jpg -1` is not `path label`"),
        ("a.jpg zero\n", r"list.txt:1: `a.jpg zero` is not `path label`"),
        ("a.jpg 0\n\nb.jpg 9\n", r"list.txt:3: label 9 is out of range: with --num-classes 9 labels go from 0 to 8"),
        ("a.jpg 0\nb.jpg 1\na.jpg 2\n", r"list.txt:3: `a.jpg` is listed a second time, first at .*list.txt:1"),
        ("x/a.jpg 0\n./x//a.jpg 2\n", r"list.txt:2: `x/a.jpg` is listed a second time"),
        ("../a.jpg 0\n", r"list.txt:1: `../a.jpg` leads out of the root"),
        ("x/../../a.jpg 0\n", "leads out of the root"),
        ("/etc/passwd 0\n", "leads out of the root"),
        ("a.jpg 99999999999\n", "label 99999999999 is out of range"),
        ("\n\n", "this list file is empty"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_lists(tmp_path, {"train": write(tmp_path / "list.txt", text)}, num_classes=9)


def test_an_absurd_label_is_refused_without_num_classes_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list.txt:1: label 99999999999 is out of range"):
        read_lists(tmp_path, {"train": write(tmp_path / "list.txt", "a.jpg 99999999999\n")})


def test_an_image_of_two_splits_is_an_error_that_names_both_lines(tmp_path: Path) -> None:
    train = write(tmp_path / "train.txt", "a.jpg 0\n")
    test = write(tmp_path / "test.txt", "b.jpg 0\na.jpg 0\n")
    with pytest.raises(DataError, match=r"test.txt:2: `a.jpg` is listed a second time, first at .*train.txt:1"):
        read_lists(tmp_path, {"train": train, "test": test})


def test_a_missing_list_or_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.txt: there is no such list file"):
        read_lists(tmp_path, {"train": tmp_path / "nowhere.txt"})
    with pytest.raises(DataError, match=r"nowhere: there is no such folder; --root names"):
        read_lists(tmp_path / "nowhere", {"train": write(tmp_path / "a.txt", "a.jpg 0\n")})


def test_a_list_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00a.jpg 0")
    with pytest.raises(DataError, match="cannot read this list file"):
        read_lists(tmp_path, {"train": tmp_path / "list.txt"})
