"""A folder per class, as torchvision's ImageFolder reads it."""

import logging
import os
from pathlib import Path

import pytest
import torchvision
from PIL import Image

from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.folder import read_folder
from ltrsys.data.validation.images import check_image
from ltrsys.errors import DataError
from tests.data.sources.pictures import FORMAT_OF_ENDING, encode, picture


def write(path: Path, data: bytes = b"no image") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


def test_classes_without_split_folders_are_a_training_split(tmp_path: Path) -> None:
    for name in ("owl/b.jpg", "owl/deep/a.PNG", "ant/x y.jpeg"):
        touch(tmp_path / name)
    (tmp_path / "owl" / "notes.txt").write_text("no image")
    source = read_folder(tmp_path)
    assert [record.name for record in source.classes] == ["ant", "owl"]
    assert source.splits["train"].names == ["ant/x y.jpeg", "owl/b.jpg", "owl/deep/a.PNG"]
    assert source.splits["train"].labels.tolist() == [0, 1, 1]
    assert source.read("owl/b.jpg") == (tmp_path / "owl/b.jpg").read_bytes()


def test_split_folders_share_their_class_ids(tmp_path: Path) -> None:
    for name in ("train/b/1.jpg", "train/c/1.jpg", "val/c/2.jpg", "test/a/3.jpg"):
        touch(tmp_path / name)
    source = read_folder(tmp_path)
    assert [record.name for record in source.classes] == ["a", "b", "c"]
    assert {split: items.labels.tolist() for split, items in source.splits.items()} == {
        "train": [1, 2],
        "val": [2],
        "test": [0],
    }


def test_the_same_images_and_ids_as_torchvision(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/1.png", "a/0.jpg", "C/9.webp"):
        touch(tmp_path / name)
    theirs = torchvision.datasets.ImageFolder(str(tmp_path))
    ours = read_folder(tmp_path)
    items = ours.splits["train"]
    assert [record.name for record in ours.classes] == theirs.classes
    listed = list(zip(items.names, items.labels.tolist(), strict=True))
    assert listed == [(str(Path(path).relative_to(tmp_path)), label) for path, label in theirs.samples]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: there is no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="there is no class folder here"):
        read_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="there is no image in its class folders"):
        read_folder(tmp_path)
    touch(tmp_path / "val/a/1.jpg")
    with pytest.raises(DataError, match="no `train` folder beside"):
        read_folder(tmp_path)


SYSTEMS = [
    ".ipynb_checkpoints/0.jpg",
    "._0.jpg",
    ".DS_Store",
    "__MACOSX/0.jpg",
    "@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
    "Thumbs.db",
    "desktop.ini",
    "$RECYCLE.BIN/0.jpg",
]


@pytest.mark.parametrize("level", ["", "train", "train/owl", "train/owl/deep"])
@pytest.mark.parametrize("noise", SYSTEMS)
def test_what_systems_leave_behind_is_passed_over_at_every_level(
    tmp_path: Path, level: str, noise: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("train/ant/0.jpg", "train/owl/0.jpg", "train/owl/deep/1.jpg", "val/owl/0.jpg"):
        touch(tmp_path / name)
    expected = read_folder(tmp_path)
    write(tmp_path / level / noise, encode(picture(), "JPEG"))
    with caplog.at_level(logging.WARNING, "ltrsys"):
        source = read_folder(tmp_path)
    assert source.classes == expected.classes
    assert {split: items.names for split, items in source.splits.items()} == {
        split: items.names for split, items in expected.splits.items()
    }
    assert not caplog.text


@pytest.mark.parametrize("noise", SYSTEMS)
def test_what_systems_leave_behind_is_no_class_of_a_folder_without_splits(tmp_path: Path, noise: str) -> None:
    touch(tmp_path / "owl/0.jpg")
    write(tmp_path / noise, encode(picture(), "JPEG"))
    assert [record.name for record in read_folder(tmp_path).classes] == ["owl"]


@pytest.mark.parametrize("ending", FORMAT_OF_ENDING)
def test_every_format_is_taken_by_its_ending_and_by_its_content_and_decoded(tmp_path: Path, ending: str) -> None:
    image_format = FORMAT_OF_ENDING[ending]
    data = encode(picture(), image_format)
    write(tmp_path / f"owl/a{ending}", data)
    names = [f"owl/a{ending}"]
    if image_format not in ("TGA", "PCX"):  # which begin like many other files
        for name in ("owl/b", "owl/c.unknown", "owl/d.2024"):
            write(tmp_path / name, data)
            names.append(name)
    source = read_folder(tmp_path)
    assert source.splits["train"].names == names
    for name in names:
        assert (check_image(source.read(name)).width, check_image(source.read(name)).height) == (40, 24)


@pytest.mark.parametrize("ending", [".jpg", ".heic", ".tif"])
def test_a_wrong_ending_of_an_image_is_told_by_its_content(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"owl/0{ending}", encode(picture(), "PNG"))
    source = read_folder(tmp_path)
    assert check_image(source.read(source.splits["train"].names[0])).width == 40


def test_what_is_passed_over_is_counted_and_named_by_ending_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path / "owl/0.jpg")
    touch(tmp_path / "beside.jpg")
    raw = encode(picture(), "TIFF")  # which is how a raw file begins
    for name, data in {
        "owl/a.txt": b"P1 is the name of a plot",
        "owl/b.txt": b"BMI 22",
        "owl/deep/notes": b"x",
        "owl/a.eps": encode(picture(), "EPS"),
        "owl/a.pdf": encode(picture(), "PDF"),
        "owl/a.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "owl/a.mpg": b"\x00\x00\x01\xb3" + bytes(100),
        "owl/a.grib": b"GRIB\0\0\0\1" + bytes(100),
        "owl/a.wmf": b"\xd7\xcd\xc6\x9a" + bytes(100),
        "owl/a.mp4": b"\0\0\0\x18ftypmp42" + bytes(100),
        "owl/a.NEF": raw,
        "owl/a.dng": raw,
        "owl/a.THM": encode(picture(), "JPEG"),
        "owl/a.npy": b"\x93NUMPY",
        "owl/empty": b"",
    }.items():
        write(tmp_path / name, data)
    with caplog.at_level(logging.WARNING, "ltrsys"):
        assert read_folder(tmp_path).splits["train"].names == ["owl/0.jpg"]
    (message,) = caplog.messages
    assert "used: 2 .txt, 2 without an ending, 1 .dng, " in message
    assert message.endswith("; the first is `beside.jpg`.")
    for ending in (".eps", ".pdf", ".h5", ".mpg", ".grib", ".wmf", ".mp4", ".nef", ".dng", ".thm", ".npy"):
        assert f"1 {ending}," in message or f"1 {ending};" in message
    assert "1 .jpg outside the class folders" in message


def test_a_line_that_counts_what_is_passed_over_stays_short(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "owl/0.jpg")
    for number in range(50):
        write(tmp_path / f"owl/data.{number}")
    write(tmp_path / "owl/x.a\nb")
    write(tmp_path / "owl/y.a\nb")
    with caplog.at_level(logging.WARNING, "ltrsys"):
        read_folder(tmp_path)
    (message,) = caplog.messages
    assert "2 .a\\nb, " in message
    assert " and 31 other endings" in message
    assert "\n" not in message


def test_a_broken_file_with_the_ending_of_an_image_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path / "owl/0.jpg", b"broken")
    (tmp_path / "owl/1.jpg").symlink_to("nowhere")
    assert read_folder(tmp_path).splits["train"].names == ["owl/0.jpg", "owl/1.jpg"]


def test_links_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere/photo.jpg")
    touch(tmp_path / "elsewhere/deep/photo.jpg")
    root = tmp_path / "root"
    touch(root / "ant/0.jpg")
    (root / "ant/1.jpg").symlink_to(tmp_path / "elsewhere/photo.jpg")
    (root / "ant/2").symlink_to(tmp_path / "elsewhere/photo.jpg")
    (root / "owl").symlink_to(tmp_path / "elsewhere")
    (root / "bee").mkdir()
    (root / "bee/linked").symlink_to(tmp_path / "elsewhere/deep")
    assert read_folder(root).splits["train"].names == [
        "ant/0.jpg",
        "ant/1.jpg",
        "ant/2",
        "bee/linked/photo.jpg",
        "owl/deep/photo.jpg",
        "owl/photo.jpg",
    ]


def test_links_that_lead_back_are_passed_over_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, foreign = tmp_path / "root", tmp_path / "foreign"
    touch(root / "owl/deep/0.jpg")
    touch(root / "ant/1.jpg")
    touch(foreign / "2.jpg")
    (root / "owl/self").symlink_to("self")
    (root / "owl/up").symlink_to("..")
    (root / "owl/deep/here").symlink_to(".")
    (root / "owl/again").symlink_to("deep")
    (root / "owl/out").symlink_to(foreign)
    (foreign / "back").symlink_to(root)
    (root / "ant/other").symlink_to(root / "owl")
    (root / "whole").symlink_to(root)
    with caplog.at_level(logging.WARNING, "ltrsys"):
        names = read_folder(root).splits["train"].names
    assert names == ["ant/1.jpg", "ant/other/deep/0.jpg", "ant/other/out/2.jpg", "owl/deep/0.jpg", "owl/out/2.jpg"]
    assert "links that lead back" in caplog.text


@pytest.mark.parametrize("target", ["/", "..", "."])
def test_a_split_that_leads_back_is_none(tmp_path: Path, target: str) -> None:
    touch(tmp_path / "train/owl/0.jpg")
    (tmp_path / "val").symlink_to(target)
    assert list(read_folder(tmp_path).splits) == ["train"]


def test_many_folders_that_link_to_each_other_are_read_in_no_time(tmp_path: Path) -> None:
    for one in range(12):
        touch(tmp_path / f"nest/{one}/0.jpg")
        for other in range(12):
            (tmp_path / f"nest/{one}/to{other}").symlink_to(tmp_path / f"nest/{other}")
    assert len(read_folder(tmp_path).splits["train"]) == 12


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    touch(tmp_path / "owl/0.jpg")
    os.mkfifo(tmp_path / "owl/1.jpg")
    os.mkfifo(tmp_path / "owl/pipe")
    assert read_folder(tmp_path).splits["train"].names == ["owl/0.jpg"]


def test_classes_that_differ_in_case_or_blanks_are_named_in_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("oak/0.jpg", "oak /0.jpg", "Oak/0.jpg", "elm/0.jpg", "ash/0.jpg", "ASH/0.jpg"):
        touch(tmp_path / name)
    with caplog.at_level(logging.WARNING, "ltrsys"):
        assert len(read_folder(tmp_path).classes) == 6
    (message,) = caplog.messages
    assert "`ASH` and `ash`, `Oak` and `oak` and `oak ` differ in case or in blanks only" in message


def test_a_folder_beside_the_splits_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train/a/0.jpg", "validation/a/1.jpg"):
        touch(tmp_path / name)
    with caplog.at_level(logging.WARNING, "ltrsys"):
        assert list(read_folder(tmp_path).splits) == ["train"]
    assert "`validation` is no split and passed over; splits are called train, val and test" in caplog.text


def test_a_class_whose_name_is_no_text_is_an_error_and_a_file_is_not(tmp_path: Path) -> None:
    os.makedirs(tmp_path / "oak")
    with open(os.fsencode(tmp_path / "oak") + b"/gr\xfcn.jpg", "wb") as file:
        file.write(encode(picture(), "JPEG"))
    assert [os.fsencode(name) for name in read_folder(tmp_path).splits["train"].names] == [b"oak/gr\xfcn.jpg"]
    path = os.path.join(os.fsencode(tmp_path), b"gr\xfcn/0.jpg")
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(encode(picture(), "JPEG"))
    with pytest.raises(DataError, match=r"the name b'gr\\xfcn' of a class is not UTF-8; rename it"):
        read_folder(tmp_path)


@pytest.mark.long
def test_processes_that_check_images_know_every_format(tmp_path: Path) -> None:
    for ending, image_format in FORMAT_OF_ENDING.items():
        for split in ("train", "val"):
            write(tmp_path / f"photos/{split}/owl/{ending[1:]}{ending}", encode(picture(), image_format))
    source = read_folder(tmp_path / "photos")
    dataset = build_shards(source, tmp_path / "shards", workers=2)
    assert dataset.split("train").class_counts.tolist() == [len(FORMAT_OF_ENDING)]
