"""Shards are the same bytes however they came about, and hold what the index says."""

import fcntl
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from nvidia.dali import fn, pipeline_def
from PIL import Image

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.data.shards.layout import class_bands
from ltrsys.data.sources.digits import read_digits
from ltrsys.data.sources.folder import read_folder
from ltrsys.data.sources.lists import read_lists
from ltrsys.data.sources.long_tail import cut_to_long_tail
from ltrsys.data.sources.source import Source
from ltrsys.data.validation import staging
from ltrsys.errors import DataError, LtrsysError, UsageError
from tests.conftest import TINY_COUNTS
from tests.data.interruptions import Dies, Noted
from tests.data.shards.datasets import add, assert_same, split_of_item, times


@pytest.fixture(scope="session")
def digits() -> Source:
    return read_digits(seed=0)


@pytest.fixture(scope="session")
def built(digits: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits") / "shards"
    build_shards(digits, out)
    return out


def test_the_index_points_to_each_image_and_its_label(tiny_shards: Path) -> None:
    dataset = Dataset.open(tiny_shards)
    assert dataset.split("train").class_counts.tolist() == TINY_COUNTS
    for name in ("train", "val", "test"):
        split = dataset.split(name)
        seen = 0
        for shard, record in enumerate(split.record.shards):
            with tarfile.open(split.shard_path(shard)) as tar:
                members = tar.getmembers()
            content = split.shard_path(shard).read_bytes()
            assert len(members) == 2 * record.samples
            for label, jpeg in zip(members[::2], members[1::2], strict=True):
                assert (label.name, jpeg.name) == (f"{seen:09d}.cls", f"{seen:09d}.jpg")
                assert content[label.offset_data :][: label.size] == str(split.label[seen]).encode()
                assert (jpeg.offset_data, jpeg.size) == (split.offset[seen], split.size[seen])
                image = Image.open(io.BytesIO(content[jpeg.offset_data :][: jpeg.size]))
                assert image.size == (split.width[seen], split.height[seen])
                assert (jpeg.mtime, jpeg.uid, jpeg.gid, jpeg.uname, jpeg.gname) == (0, 0, 0, "", "")
                seen += 1
        assert seen == len(split)


def test_a_shard_holds_classes_of_one_stratum_only(tiny_shards: Path) -> None:
    train = Dataset.open(tiny_shards).split("train")
    bands = class_bands(train.class_counts, 4)
    by_shard = [set(bands[train.label[train.shard == shard]]) for shard in range(len(train.record.shards))]
    assert all(len(found) == 1 for found in by_shard)
    for stratum in train.record.strata:
        assert set(bands[train.label[stratum.first : stratum.first + stratum.samples]]) == {stratum.band}


@pytest.mark.long
def test_a_label_keeps_its_own_image(digits: Source, built: Path) -> None:
    for name in ("train", "val", "test"):
        split = Dataset.open(built).split(name)
        of_source = [sorted(_mean(digits.read(item)) for item in _of_class(digits, name, label)) for label in range(10)]
        of_shards: list[list[float]] = [[] for _ in range(10)]
        for sample in range(len(split)):
            with open(split.shard_path(int(split.shard[sample])), "rb") as file:
                file.seek(int(split.offset[sample]))
                of_shards[split.label[sample]].append(_mean(file.read(int(split.size[sample]))))
        for ours, theirs in zip(of_shards, of_source, strict=True):
            assert np.abs(np.sort(ours) - theirs).max() < 1


def _of_class(source: Source, split: str, label: int) -> list[str]:
    items = source.splits[split]  # type: ignore[index]
    return [items.names[place] for place in np.flatnonzero(items.labels == label)]


def _mean(data: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float).mean())


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset's own, one a shard
def test_webdataset_reads_the_shards(tiny_shards: Path) -> None:
    train = Dataset.open(tiny_shards).split("train")
    paths = [str(train.shard_path(shard)) for shard in range(len(train.record.shards))]
    samples = webdataset.WebDataset(paths, shardshuffle=False).decode("pil").to_tuple("jpg", "cls")
    labels = [(image.size, label) for image, label in samples]
    assert labels == [((32, 32), label) for label in train.label.tolist()]


def test_dali_reads_the_shards(tiny_shards: Path) -> None:
    split = Dataset.open(tiny_shards).split("val")

    @pipeline_def(batch_size=20, num_threads=1, device_id=None)
    def graph():
        jpegs, labels = fn.readers.webdataset(paths=[str(split.shard_path(0))], ext=["jpg", "cls"])
        return fn.decoders.image(jpegs), labels

    pipeline = graph()
    pipeline.build()
    labels: list[int] = []
    for _ in range(len(split) // 20):
        images, texts = pipeline.run()
        assert images.at(0).shape == (32, 32, 3)
        labels += [int(bytes(texts.at(place))) for place in range(20)]
    assert labels == split.label.tolist()


@pytest.mark.long
def test_any_number_of_workers_writes_the_same_bytes(
    digits: Source, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "WORTH_PROCESSES", 0.0)  # else the digits are too few for others
    build_shards(digits, tmp_path / "shards", workers=2)
    assert_same(built, tmp_path / "shards")


def test_another_seed_orders_the_training_images_otherwise(digits: Source, built: Path, tmp_path: Path) -> None:
    other = build_shards(digits, tmp_path / "shards", BuildOptions(seed=1))
    labels = Dataset.open(built).split("train").label
    assert not np.array_equal(other.split("train").label, labels)
    assert np.array_equal(np.sort(other.split("train").label), np.sort(labels))


@pytest.mark.long
@pytest.mark.parametrize(("signal", "workers"), [("SIGINT", 1), ("SIGINT", 2), ("SIGKILL", 1)])
def test_a_build_that_is_stopped_goes_on_where_it_was(
    digits: Source, built: Path, tmp_path: Path, signal: str, workers: int
) -> None:
    out = tmp_path / "shards"
    train = digits.splits["train"].names
    stopped = subprocess.run(
        [sys.executable, "-m", "tests.data.interruptions", str(out), train[600], signal, str(workers)],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert stopped.returncode != 0
    partial = list(out.rglob("*partial*"))
    assert bool(partial) == (signal == "SIGKILL"), "only what cannot be caught leaves a partial file"
    assert not (out / "dataset.json").exists()
    kept = len(list(out.rglob("*.jpegs")))
    assert kept >= 2, "two chunks of 256 come before image 600"

    notes = tmp_path / "notes"
    build_shards(replace(digits, read=Noted(digits.read, notes)), out)
    read_again = notes.read_text().split()
    assert not set(train[:512]) & set(read_again), "what was finished is not read again"
    assert_same(built, out)


def test_a_finished_build_is_left_alone(
    digits: Source, built: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = times(built)
    with caplog.at_level(logging.INFO, "ltrsys"):
        build_shards(replace(digits, read=Noted(digits.read, tmp_path / "notes")), built)
    assert "nothing to do" in caplog.text
    assert not (tmp_path / "notes").exists()
    assert times(built) == before


def test_a_lost_shard_is_built_again(digits: Source, built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "shards")
    next((tmp_path / "shards" / "train" / "shards").iterdir()).unlink()
    build_shards(digits, tmp_path / "shards")
    assert_same(built, tmp_path / "shards")


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    digits: Source, built: Path, small_disk: Callable[[str], Path]
) -> None:
    out = small_disk("1500k") / "shards"
    with pytest.raises(LtrsysError, match=r"the disk is full \(.* MB left\). Free some space") as failure:
        build_shards(digits, out)
    assert "\n" not in str(failure.value)
    assert not list(out.rglob("*partial*"))
    assert list(out.rglob("*.jpegs")), "what was finished is kept"
    small_disk("64m")
    build_shards(digits, out)
    assert_same(built, out)


def test_another_build_in_the_same_folder_is_refused(digits: Source, built: Path) -> None:
    with pytest.raises(DataError, match=r"holds another build, with other resize, seed. Choose another --out"):
        build_shards(digits, built, BuildOptions(seed=5, resize=16))
    with pytest.raises(DataError, match="with other images"):
        build_shards(cut_to_long_tail(digits, "exponential", seed=0), built)


def test_a_folder_of_something_else_is_refused_and_not_touched(digits: Source, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="is not empty, and not a build of ltrsys"):
        build_shards(digits, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match=r"thesis.txt: this is a file"):
        build_shards(digits, tmp_path / "thesis.txt")


def test_two_builds_at_once_in_one_folder_are_refused(digits: Source, tmp_path: Path) -> None:
    (tmp_path / ".build").mkdir()
    with open(tmp_path / ".build" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LtrsysError, match="another `ltrsys shards` is at work here"):
            build_shards(digits, tmp_path)


def test_an_unusable_image_ends_the_build_and_is_named(photos: Path, tmp_path: Path) -> None:
    (photos / "train/bee/2.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"^1 of 12 images cannot be used: train/bee/2.jpg: the file is empty. "):
        build_shards(read_folder(photos), tmp_path / "shards")
    assert not (tmp_path / "shards" / "dataset.json").exists()


def test_unusable_images_are_left_out_and_listed_on_request(photos: Path, tmp_path: Path) -> None:
    (photos / "train/bee/2.jpg").write_bytes((photos / "train/bee/2.jpg").read_bytes()[:300])
    for number in range(4):
        (photos / f"train/cat/{number}.jpg").write_text("a dog")
    dataset = build_shards(read_folder(photos), tmp_path / "shards", on_reject="list")
    lines = [json.loads(line) for line in (tmp_path / "shards" / "rejected.jsonl").read_text().splitlines()]
    assert [line["item"] for line in lines] == ["train/bee/2.jpg", *(f"train/cat/{number}.jpg" for number in range(4))]
    assert lines[-1] == {"split": "train", "item": "train/cat/3.jpg", "reason": "not an image of a known format"}
    assert dataset.split("train").class_counts.tolist() == [4, 3, 0], "strata follow what passed"
    assert [stratum.band for stratum in dataset.split("train").record.strata] == [6, 8]


def test_a_refused_build_can_go_on_with_a_list(photos: Path, tmp_path: Path) -> None:
    (photos / "train/bee/2.jpg").write_bytes(b"")
    with pytest.raises(DataError):
        build_shards(read_folder(photos), tmp_path / "shards")
    build_shards(read_folder(photos), tmp_path / "shards", on_reject="list")
    build_shards(read_folder(photos), tmp_path / "other", on_reject="list")
    assert_same(tmp_path / "shards", tmp_path / "other")


def test_a_missing_file_is_named(photos: Path, tmp_path: Path) -> None:
    source = read_folder(photos)
    (photos / "train/cat/0.jpg").unlink()
    with pytest.raises(DataError, match=r"train/cat/0.jpg: there is no such file"):
        build_shards(source, tmp_path / "shards")


def test_nothing_left_is_an_error(photos: Path, tmp_path: Path) -> None:
    source = read_folder(photos)
    shutil.rmtree(photos)
    with pytest.raises(DataError, match="no image is left"):
        build_shards(source, tmp_path / "shards", on_reject="list")


def test_gaps_and_classes_without_training_images_keep_their_ids_and_are_named(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text("train/ant/0.jpg 0\ntrain/bee/0.jpg 4\n")
    test.write_text("train/ant/1.jpg 0\ntrain/cat/1.jpg 2\n")
    with caplog.at_level(logging.WARNING, "ltrsys"):
        dataset = build_shards(read_lists(photos, {"train": train, "test": test}), tmp_path / "shards")
    assert "No image at all of class 1 (class 1), 3 (class 3): the class ids stay as they are." in caplog.text
    assert "No training image of class 2 (class 2): no classifier can learn them." in caplog.text
    assert dataset.num_classes == 5
    assert dataset.split("train").class_counts.tolist() == [1, 0, 0, 0, 1]
    assert dataset.split("test").class_counts.tolist() == [1, 0, 1, 0, 0]
    assert dataset.split("test").label.tolist() == [0, 2], "val and test keep the order of the source"


def test_jpegs_enter_the_shards_byte_for_byte(photos: Path, tmp_path: Path) -> None:
    dataset = build_shards(read_folder(photos), tmp_path / "shards")
    shards = b"".join(path.read_bytes() for path in (tmp_path / "shards").rglob("*.tar"))
    assert all(path.read_bytes() in shards for path in photos.rglob("*.jpg"))
    assert dataset.record.resize is None


def test_images_are_reduced_on_request(photos: Path, tmp_path: Path) -> None:
    train = build_shards(read_folder(photos), tmp_path / "shards", BuildOptions(resize=12)).split("train")
    assert np.minimum(train.width, train.height).tolist() == [12] * 12
    assert train.width.max() > 12


def test_shards_are_cut_at_their_size(digits: Source, tmp_path: Path) -> None:
    most = 100_000
    dataset = build_shards(digits, tmp_path / "shards", BuildOptions(max_shard_bytes=most))
    for name in ("train", "val", "test"):
        shards = dataset.split(name).record.shards
        assert sum(shard.samples for shard in shards) == len(dataset.split(name))
        assert max(shard.bytes for shard in shards) <= most + 2 * 10_240
    assert len(dataset.split("train").record.shards) > 5


def test_a_worker_that_dies_ends_the_build_with_one_line(
    digits: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "WORTH_PROCESSES", 0.0)  # else the digits are too few for others
    with pytest.raises(LtrsysError, match=r"A worker process died, perhaps for lack of memory. .*fewer --workers"):
        build_shards(replace(digits, read=Dies()), tmp_path / "shards", workers=2)


def test_all_bad_images_are_counted_and_listed_and_what_was_good_is_not_checked_again(
    photos: Path, tmp_path: Path
) -> None:
    """The advice of the error works: after a replacement and a removal, the same command builds."""
    out, notes = tmp_path / "shards", tmp_path / "notes"
    for number in range(4):
        (photos / f"train/cat/{number}.jpg").write_text("a dog")
    (photos / "train/bee/2.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"^5 of 12 images cannot be used: train/bee/2.jpg: .*; train/cat/0.jpg: "):
        build_shards(read_folder(photos), out)
    listed = [json.loads(line)["item"] for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert listed == ["train/bee/2.jpg", *(f"train/cat/{number}.jpg" for number in range(4))]
    assert not list(out.rglob("*.tar")), "nothing is written as shards"

    for number in range(4):
        Image.new("RGB", (30, 20), (number, 200, 9)).save(photos / f"train/cat/{number}.jpg")
    (photos / "train/bee/2.jpg").unlink()
    source = read_folder(photos)
    dataset = build_shards(replace(source, read=Noted(source.read, notes)), out)
    assert dataset.split("train").class_counts.tolist() == [4, 3, 4]
    assert sorted(notes.read_text().split()) == [f"train/cat/{number}.jpg" for number in range(4)]
    assert not (out / "rejected.jsonl").exists()
    build_shards(read_folder(photos), tmp_path / "afresh")
    assert_same(tmp_path / "afresh", out)


def test_the_first_ten_bad_images_are_named(photos: Path, tmp_path: Path) -> None:
    source = read_folder(photos)
    shutil.rmtree(photos / "train")
    with pytest.raises(DataError, match=r"^12 of 12 images cannot be used: .*; and 2 more. All are in "):
        build_shards(source, tmp_path / "shards")


@pytest.mark.parametrize("duplicates", ["report", "together", "drop"])
def test_duplicates_across_splits(
    herbarium: Path, tmp_path: Path, duplicates: str, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "shards"
    for number in range(12):  # the same photograph, compressed anew
        smooth = Image.effect_noise((8, 8), 80 + number).resize((64, 64), Image.Resampling.BICUBIC).convert("RGB")
        smooth.save(herbarium / "elm" / f"{number}.jpg", quality=90)
        smooth.save(herbarium / "elm" / f"{number} again.jpg", quality=60)
    dataset = build_shards(
        read_folder(herbarium), out, BuildOptions(val=0.3, test=0.3, duplicates=duplicates), on_reject="list"
    )
    images = sum(len(dataset.split(name)) for name in dataset.record.splits)
    if duplicates == "together":
        assert not (out / "duplicates.jsonl").exists()
        assert images == 68
        return
    lines = [json.loads(line) for line in (out / "duplicates.jsonl").read_text().splitlines()]
    assert lines
    assert all(len({image["split"] for image in line["images"]}) > 1 for line in lines)
    assert "duplicates.jsonl" in caplog.text
    dropped = sum(image.get("dropped", False) for line in lines for image in line["images"])
    assert (dropped > 0) == (duplicates == "drop")
    assert images == 68 - dropped
    if duplicates == "report":  # as the message says
        after = build_shards(
            read_folder(herbarium), out, BuildOptions(val=0.3, test=0.3, duplicates="drop"), update=True
        )
        assert sum(len(after.split(name)) for name in after.record.splits) < 68


def test_equal_pixels_are_told_from_those_that_only_look_equal(photos: Path, tmp_path: Path) -> None:
    for name in ("test/ant", "test/bee"):
        (photos / name).mkdir(parents=True)
    add(photos / "train/ant/0.jpg")
    data = (photos / "train/ant/0.jpg").read_bytes()
    comment = b"\xff\xfe\x00\x08copied"  # other bytes, the same pixels
    (photos / "test/ant/copy.jpg").write_bytes(data[:2] + comment + data[2:])
    picture = Image.effect_noise((16, 12), 90).resize((640, 480), Image.Resampling.BICUBIC).convert("RGB")
    changed = np.array(picture)
    changed[80:88, 160:168] = 128 + 40 * (-1) ** np.add.outer(np.arange(8), np.arange(8))[:, :, None]
    Image.fromarray(changed).save(photos / "test/bee/large.png")
    changed[80:88, 160:168] = 128  # in small the checks are lost
    picture = Image.fromarray(changed)
    picture.save(photos / "train/bee/large.png")
    build_shards(read_folder(photos), tmp_path / "shards", BuildOptions(duplicates="report"))
    lines = [json.loads(line) for line in (tmp_path / "shards" / "duplicates.jsonl").read_text().splitlines()]
    kinds = {image["item"]: line["kind"] for line in lines for image in line["images"]}
    assert kinds["test/ant/copy.jpg"] == kinds["train/ant/0.jpg"] == "exact"
    assert {"train/bee/large.png", "test/bee/large.png"} <= kinds.keys()
    assert kinds["test/bee/large.png"] == "near"


def test_groups_stand_on_one_side(herbarium: Path, tmp_path: Path) -> None:
    options = BuildOptions(val=0.2, test=0.2, group_by=r"/(\d)\d*\.jpg")
    dataset = build_shards(read_folder(herbarium), tmp_path / "shards", options)
    splits_of: dict[str, set[str]] = {}
    for item, name in split_of_item(dataset).items():
        splits_of.setdefault(item.split("/")[1][0], set()).add(name)
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert len(splits_of) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (BuildOptions(val=0.6, test=0.4), "nothing is left to train on"),
        (BuildOptions(group_by="location"), "--group-by is for splits that are made here"),
        (BuildOptions(val=0.1, group_by="location"), "the source has no such column"),
    ],
)
def test_a_wrong_option_ends_the_build_before_anything_is_read(
    herbarium: Path, tmp_path: Path, options: BuildOptions, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build_shards(read_folder(herbarium), tmp_path / "shards", options)
    assert not list(tmp_path.rglob("*.jpegs"))


def test_a_split_that_is_there_is_not_made(photos: Path, tmp_path: Path) -> None:
    (photos / "test" / "ant").mkdir(parents=True)
    shutil.copy(photos / "train" / "ant" / "0.jpg", photos / "test" / "ant")
    with pytest.raises(UsageError, match=r"--test 0.1: folder has a test split already"):
        build_shards(read_folder(photos), tmp_path / "shards", BuildOptions(test=0.1))


def test_licences_and_rights_holders_are_written_down(photos: Path, tmp_path: Path) -> None:
    source = read_folder(photos)
    items = source.splits["train"]
    details = {
        "licence": np.array(["CC-BY"] * 3 + [None] * 9, dtype=object),
        "rights_holder": np.array(['Ann "the ant" Lee', None, None, "Bo"] + [None] * 8, dtype=object),
    }
    source = replace(source, splits={"train": replace(items, details=details)})
    build_shards(source, tmp_path / "shards")
    assert (tmp_path / "shards" / "attribution.csv").read_bytes().decode().split("\r\n") == [
        "item,licence,rights_holder",
        'train/ant/0.jpg,CC-BY,"Ann ""the ant"" Lee"',
        "train/ant/1.jpg,CC-BY,",
        "train/ant/2.jpg,CC-BY,",
        "train/ant/3.jpg,,Bo",
        "",
    ]


def test_a_file_name_that_is_not_utf_8_is_kept(photos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (photos / "train" / "ant" / "0.jpg").rename(photos / "train" / "ant" / name)
    (photos / "train" / "bee" / os.fsdecode(b"n\xef.jpg")).write_text("no image")
    dataset = build_shards(read_folder(photos), tmp_path / "shards", on_reject="list")
    assert len(dataset.split("train")) == 12
    (line,) = (tmp_path / "shards" / "rejected.jsonl").read_text().splitlines()
    assert os.fsencode(json.loads(line)["item"]) == b"train/bee/n\xef.jpg"
    update = build_shards(read_folder(photos), tmp_path / "shards", on_reject="list", update=True)
    assert update.fingerprint == dataset.fingerprint
