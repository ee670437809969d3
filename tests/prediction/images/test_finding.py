"""What may be named on a command line, and what is said where it leads nowhere."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import DataError, UsageError
from ltrsys.prediction.images.collections import MAX_BYTES, Images, UnreadableError
from ltrsys.prediction.images.finding import find_images
from tests.data.sources.pictures import encode, picture


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of five photographs and other files, below the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a b.PNG", "deep/c.heic", "deep/er/d.jpeg", "none"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(), "JPEG"))
    for name in ("notes.txt", ".hidden.jpg", "deep/Thumbs.db", "deep/._c.heic"):
        (tmp_path / "photos" / name).write_text("no image")
    return tmp_path


def names(images: Images) -> list[str]:
    return [images.name(place) for place in range(len(images))]


def test_a_folder_is_all_images_below_it_by_their_paths(photographs: Path) -> None:
    found = names(find_images(["photos"]))
    assert found == [f"photos/{name}" for name in ("a b.PNG", "b.jpg", "deep/c.heic", "deep/er/d.jpeg", "none")]


def test_arguments_come_in_their_order_and_a_file_once(photographs: Path) -> None:
    assert names(find_images(["photos/none", "photos/deep/**/*.jpeg", "photos/none", "photos"])) == [
        "photos/none", "photos/deep/er/d.jpeg", "photos/a b.PNG", "photos/b.jpg", "photos/deep/c.heic",
    ]  # fmt: skip


def test_paths_of_a_list_begin_here_or_at_the_list(photographs: Path) -> None:
    (photographs / "photos" / "list.txt").write_text("photos/b.jpg\r\n\na b.PNG\ngone.jpg\n")
    images = find_images(["photos/list.txt"])
    assert names(images) == ["photos/b.jpg", "photos/a b.PNG", "gone.jpg"]
    with pytest.raises(UnreadableError, match="there is no such file"):
        images.read(2)
    assert images.version(2) == images.version(2) != images.version(0)


@pytest.mark.parametrize(("separator", "text"), [("\n", "b.jpg\nx y.jpg\n"), ("\0", "b.jpg\0x y.jpg\0")])
def test_standard_input_is_a_list(monkeypatch: pytest.MonkeyPatch, separator: str, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert names(find_images(["-"], separator=separator)) == ["b.jpg", "x y.jpg"]


def test_images_of_a_tar_file_are_read_from_where_they_lie(photographs: Path) -> None:
    with tarfile.open(photographs / "a.tar", "w") as archive:
        archive.add("photos/notes.txt", "1.cls")
        archive.add("photos/b.jpg", "1.jpg")
        archive.add("photos/deep/c.heic", "x/2.heic")
    images = find_images(["a.tar"])
    assert names(images) == ["a.tar/1.jpg", "a.tar/x/2.heic"]
    assert images.read(1) == Path("photos/b.jpg").read_bytes()
    before = images.version(0)
    os.utime("a.tar", ns=(0, 0))
    assert images.version(0) != before
    Path("a.tar").unlink()
    with pytest.raises(UnreadableError, match=r"its tar file cannot be read \(No such file"):
        images.read(0)


def test_shards_are_all_of_their_splits_or_one(tiny_shards: Path, tmp_path: Path) -> None:
    assert len(find_images([str(tiny_shards)])) == 425 + 120 + 240
    images = find_images([str(tiny_shards)], split="val")
    assert len(images) == 120
    shard = Dataset.open(tiny_shards).split("val").shard_path(0)
    assert images.name(0) == f"{shard}/000000000.jpg"
    members = find_images([str(shard)])
    assert [members.read(place) for place in (0, 5)] == [images.read(place) for place in (0, 5)]
    with pytest.raises(UsageError, match=r"--split dev: .* has no such split \(there is: train, val, test\)"):
        find_images([str(tiny_shards)], split="dev")


def test_a_sample_that_is_not_what_the_index_says_cannot_be_read(tiny_shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    split = Dataset.open(copy).split("val")
    with open(split.shard_path(int(split.shard[3])), "r+b") as file:
        file.seek(int(split.offset[3]) + 20)
        file.write(b"\0\0\0\0")
    images = find_images([str(copy)], split="val")
    with pytest.raises(UnreadableError, match="checksum"):
        images.read(3)
    assert images.read(4)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("nowhere.jpg", "`nowhere.jpg`: there is no such file or folder."),
        ("photos/*.gif", "`photos/*.gif`: no file matches this pattern."),
        ("photos/deep/none", "there is no image in this folder, or below it"),
        ("empty.txt", "there is no image to name: the lists are empty"),
        ("ftp://host/shards", "is not a scheme for shards"),
    ],
)
def test_what_leads_nowhere_is_a_mistake(photographs: Path, argument: str, said: str) -> None:
    (photographs / "photos" / "deep" / "none").mkdir()
    (photographs / "empty.txt").write_text("\n\n")
    with pytest.raises(UsageError) as error:
        find_images([argument])
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tar", b"no tar file", "not a plain tar file, or a damaged one"),
        ("b.tar", b"\0" * 10240, "there is no image in this tar file"),
        ("c.txt", b"a.jpg\0b.jpg\0", "Give it on standard input with --null"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_told(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        find_images([str(tmp_path / name)])
    assert said in str(error.value)


def test_a_path_that_is_no_text_is_kept_as_it_is(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")
    Path(path).write_bytes(encode(picture(), "JPEG"))
    images = find_images([str(tmp_path)])
    assert names(images) == [path]
    assert images.read(0)


def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(UnreadableError, match="it has 1073741825 bytes, more than 1073741824"):
        find_images([str(path)]).read(0)
