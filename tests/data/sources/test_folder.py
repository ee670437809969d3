"""A folder per class, as torchvision's ImageFolder reads it."""

from pathlib import Path

import pytest
import torchvision
from PIL import Image

from ltrsys.data.sources.folder import read_folder
from ltrsys.errors import DataError


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
