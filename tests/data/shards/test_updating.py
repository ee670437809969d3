"""An update gives the dataset of a build, writes only what changes, and can be stopped at any time."""

import logging
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.verify import verify
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.folder import read_folder
from ltrsys.errors import DataError
from tests.data.interruptions import Noted
from tests.data.shards.datasets import add, of_dataset, split_of_item, times


def test_another_list_is_another_build_unless_it_is_an_update(photos: Path, tmp_path: Path) -> None:
    build_shards(read_folder(photos), tmp_path / "shards")
    Image.new("RGB", (30, 20)).save(photos / "train/cat/9.jpg")
    with pytest.raises(DataError, match=r"a finished build, with other images. Bring it up to date with --update"):
        build_shards(read_folder(photos), tmp_path / "shards")
    dataset = build_shards(read_folder(photos), tmp_path / "shards", update=True)
    assert dataset.split("train").class_counts.tolist() == [4, 4, 5]


def test_an_update_gives_the_dataset_of_a_build_and_writes_only_what_changes(
    herbarium: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, notes = tmp_path / "shards", tmp_path / "notes"
    before = build_shards(read_folder(herbarium), out).split("train").class_counts.sum()
    written = times(out)
    add(herbarium / "oak" / "new.jpg")
    add(herbarium / "oak" / "newer.jpg")
    source = read_folder(herbarium)
    with caplog.at_level(logging.INFO, "ltrsys"):
        after = build_shards(replace(source, read=Noted(source.read, notes)), out, update=True)
    assert "58 images: 2 added." in caplog.text
    assert sorted(notes.read_text().split()) == ["oak/new.jpg", "oak/newer.jpg"]
    assert of_dataset(after) == of_dataset(build_shards(source, tmp_path / "afresh"))
    assert after.split("train").class_counts.sum() > before
    kept = [path for path, time in written.items() if path.suffix == ".tar" and path.exists()]
    assert {path.name for path in kept} >= {"train-000001.tar", "train-000002.tar"}, "elm and ash stay"
    assert all(path.stat().st_mtime_ns == written[path] for path in kept)
    assert list(verify(after)) == []
    assert not (out / ".build").exists()


def test_an_update_moves_no_image_to_another_split(herbarium: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "shards", BuildOptions(val=0.2, test=0.2)
    before = split_of_item(build_shards(read_folder(herbarium), out, options))
    assert set(before.values()) == {"train", "val", "test"}
    for number in range(30):
        add(herbarium / ("oak", "elm", "yew")[number % 3] / f"new{number}.jpg")
    after = split_of_item(build_shards(read_folder(herbarium), out, options, update=True))
    assert {item: after[item] for item in before} == before
    assert {after[item] for item in after.keys() - before.keys()} == {"train", "val", "test"}


def test_an_update_that_forgets_the_shares_is_refused(herbarium: Path, tmp_path: Path) -> None:
    build_shards(read_folder(herbarium), tmp_path / "shards", BuildOptions(val=0.2, test=0.1))
    with pytest.raises(DataError, match=r"was built with --val 0.2 and --test 0.1, and without it all of these images"):
        build_shards(read_folder(herbarium), tmp_path / "shards", update=True)


def test_an_update_follows_removed_replaced_and_relabelled_images(
    herbarium: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "shards"
    build_shards(read_folder(herbarium), out)
    (herbarium / "ash" / "3.jpg").unlink()
    add(herbarium / "elm" / "x.jpg")
    (herbarium / "elm" / "x.jpg").replace(herbarium / "elm" / "2.jpg")  # other pixels under an old name
    (herbarium / "oak" / "1.jpg").rename(herbarium / "elm" / "was_an_oak.jpg")
    with caplog.at_level(logging.INFO, "ltrsys"):
        after = build_shards(read_folder(herbarium), out, update=True)
    assert "55 images: 1 added, 2 removed, 1 replaced." in caplog.text
    assert of_dataset(after) == of_dataset(build_shards(read_folder(herbarium), tmp_path / "afresh"))
    assert list(verify(after)) == []


def test_an_update_keeps_the_ids_of_old_classes(herbarium: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    build_shards(read_folder(herbarium), out)
    (herbarium / "birch").mkdir()
    add(herbarium / "birch" / "0.jpg")
    shutil.rmtree(herbarium / "elm")
    after = build_shards(read_folder(herbarium), out, update=True)
    assert [record.name for record in after.record.classes] == ["ash", "elm", "oak", "birch"]
    assert after.split("train").class_counts.tolist() == [40, 0, 4, 1]


def test_an_update_again_and_again_stays_whole(herbarium: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    build_shards(read_folder(herbarium), out)
    for number in range(4):
        add(herbarium / ("oak", "elm")[number % 2] / f"new{number}.jpg")
        dataset = build_shards(read_folder(herbarium), out, update=True)
        assert list(verify(dataset)) == []
        keys: list[str] = []
        for shard in range(len(dataset.split("train").record.shards)):
            with tarfile.open(dataset.split("train").shard_path(shard)) as tar:
                keys += tar.getnames()
        assert len(set(keys)) == len(keys), "webdataset takes samples by their keys"
    assert of_dataset(dataset) == of_dataset(build_shards(read_folder(herbarium), tmp_path / "afresh"))
    shards = {path.name for path in (out / "train" / "shards").iterdir()}
    assert shards == {shard.name for shard in dataset.record.splits["train"].shards}, "nothing old is left"


def test_nothing_new_is_an_update_too(herbarium: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "shards"
    before = build_shards(read_folder(herbarium), out)
    with caplog.at_level(logging.INFO, "ltrsys"):
        after = build_shards(read_folder(herbarium), out, update=True)
    assert "nothing has changed" in caplog.text
    assert after.fingerprint == before.fingerprint


def test_an_update_that_was_killed_leaves_the_old_build_and_goes_on(herbarium: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    old = of_dataset(build_shards(read_folder(herbarium), out))
    add(herbarium / "oak" / "new.jpg")
    source = read_folder(herbarium)
    with pytest.raises(KeyboardInterrupt):
        build_shards(replace(source, read=Interrupts()), out, update=True)
    assert of_dataset(Dataset.open(out)) == old
    after = build_shards(read_folder(herbarium), out, update=True)
    assert of_dataset(after) == of_dataset(build_shards(source, tmp_path / "afresh"))


class Interrupts:
    """A reader that ends the build, as Ctrl-C does."""

    def __call__(self, item: str) -> bytes:
        raise KeyboardInterrupt


@pytest.mark.long
@pytest.mark.parametrize("grows", ["oak", "ash"], ids=["written anew", "appended"])
def test_a_release_that_was_killed_is_finished_by_the_next_command(
    herbarium: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grows: str
) -> None:
    """Whatever file was the last one that found its place."""
    for stop_at in range(1, 12):
        out = tmp_path / f"shards{stop_at}"
        build_shards(read_folder(herbarium), out)
        add(herbarium / grows / f"new{stop_at}.jpg")
        moved = 0
        real = os.replace

        def replace_some(source: Path, target: Path, stop_at: int = stop_at, real=real) -> None:
            nonlocal moved
            if "ready" in Path(source).parts and "partial" not in str(source):
                moved += 1
                if moved == stop_at:
                    raise InterruptedError
            real(source, target)

        monkeypatch.setattr(os, "replace", replace_some)
        interrupted = False
        try:
            build_shards(read_folder(herbarium), out, update=True)
        except InterruptedError:
            interrupted = True
        monkeypatch.undo()
        after = build_shards(read_folder(herbarium), out, update=True)
        assert list(verify(after)) == []
        assert len(after.split("train")) == 56 + stop_at
        assert grows == "oak" or any(shard.appended for shard in after.record.splits["train"].shards)
        if not interrupted:
            break
    assert not interrupted, "every file was tried"


def test_shards_of_an_earlier_version_cannot_be_updated_and_say_so(herbarium: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    build_shards(read_folder(herbarium), out)
    (out / "train" / "images.parquet").unlink()
    with pytest.raises(DataError, match=r"images.parquet: is missing: these shards were built by ltrsys 0.2.0"):
        build_shards(read_folder(herbarium), out, update=True)
    (out / "train" / "images.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(DataError, match="not a list of the images of a split"):
        build_shards(read_folder(herbarium), out, update=True)
    assert Dataset.open(out).split("train").class_counts.tolist() == [40, 12, 4]


def test_a_file_whose_name_is_not_utf_8_is_known_again(herbarium: Path, tmp_path: Path) -> None:
    out, notes = tmp_path / "shards", tmp_path / "notes"
    (herbarium / "ash" / "1.jpg").rename(herbarium / "ash" / os.fsdecode(b"\xe9.jpg"))
    build_shards(read_folder(herbarium), out)
    add(herbarium / "ash" / "new.jpg")
    source = read_folder(herbarium)
    after = build_shards(replace(source, read=Noted(source.read, notes)), out, update=True)
    assert notes.read_text().split() == ["ash/new.jpg"]
    assert os.fsdecode(b"ash/\xe9.jpg") in split_of_item(after)
