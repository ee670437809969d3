"""An update appends new images to a stratum that has lost none, and leaves its other shards as they are."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ltrsys.data.config import make_sampler
from ltrsys.data.index.columns import COLUMNS, column_path
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.plan.planner import Planner
from ltrsys.data.reading.ranges import ranges_of
from ltrsys.data.reading.verify import verify
from ltrsys.data.shards import writing
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.folder import read_folder
from ltrsys.metrics.config import ShotsConfig
from ltrsys.reporting.dataset.summary import summarize
from tests.data.interruptions import Noted
from tests.data.shards.datasets import add, assert_same, of_dataset, times

SMALL_SHARDS = BuildOptions(max_shard_bytes=40_000)
"""Several shards for the 40 photographs of `ash`."""


def updated(photographs: Path, out: Path, *, workers: int = 1) -> Dataset:
    return build_shards(read_folder(photographs), out, SMALL_SHARDS, workers=workers, update=True)


def appended(dataset: Dataset) -> list[str]:
    return [shard.name for shard in dataset.record.splits["train"].shards if shard.appended]


def test_new_images_come_into_a_shard_of_their_own_and_the_old_ones_stay(herbarium: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    before = build_shards(read_folder(herbarium), out, SMALL_SHARDS)
    written, old = times(out), before.record.splits["train"]
    for number in range(3):
        add(herbarium / "ash" / f"new{number}.jpg")
    after = updated(herbarium, out)
    new = after.record.splits["train"]
    assert len(old.shards) > 4
    assert [shard.name for shard in new.shards if not shard.appended] == [shard.name for shard in old.shards]
    assert all(path.stat().st_mtime_ns == time for path, time in written.items() if path.suffix == ".tar")
    assert [shard.samples for shard in new.shards if shard.appended] == [3]
    assert list(verify(after)) == []
    assert of_dataset(after) == of_dataset(build_shards(read_folder(herbarium), tmp_path / "afresh"))


def test_appended_samples_stand_between_the_others_of_their_stratum(herbarium: Path, tmp_path: Path) -> None:
    build_shards(read_folder(herbarium), tmp_path / "shards", SMALL_SHARDS)
    for number in range(4):
        add(herbarium / "ash" / f"new{number}.jpg")
    split = updated(herbarium, tmp_path / "shards").split("train")
    ash = split.record.strata[-1]
    is_new = np.array([shard.appended for shard in split.record.shards])[split.shard]
    new = np.flatnonzero(is_new) - ash.first
    assert ((new * 4) // ash.samples).tolist() == [0, 1, 2, 3], "one in each quarter"
    every = np.arange(len(split))
    assert len(ranges_of(split, every).shard) == len(split.record.shards), "each shard is read in one piece"
    assert sorted(Planner(split, make_sampler(), seed=0, num_epochs=1).epoch(0).order) == every.tolist()


def test_what_was_appended_is_written_together_until_the_stratum_has_grown_by_an_eighth(
    herbarium: Path, tmp_path: Path
) -> None:
    build_shards(read_folder(herbarium), tmp_path / "shards")
    samples = []
    for number in range(7):
        add(herbarium / "ash" / f"new{number}.jpg")
        dataset = build_shards(read_folder(herbarium), tmp_path / "shards", update=True)
        shards = dataset.record.splits["train"].shards
        samples.append([shard.samples for shard in shards if shard.appended])
        assert list(verify(dataset)) == []
    assert samples[:4] == [[1], [2], [3], [4]]
    assert [] in samples[4:6], "40 photographs, and 5 or 6 more by their bytes"
    assert of_dataset(dataset) == of_dataset(build_shards(read_folder(herbarium), tmp_path / "afresh"))


def test_an_update_without_new_images_leaves_appended_shards_as_they_are(herbarium: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    build_shards(read_folder(herbarium), out, SMALL_SHARDS)
    add(herbarium / "ash" / "new.jpg")
    before, written = updated(herbarium, out), times(out)
    after = updated(herbarium, out)
    assert after.fingerprint == before.fingerprint
    assert all(path.stat().st_mtime_ns == time for path, time in written.items() if path.suffix == ".tar")
    add(herbarium / "oak" / "new.jpg")
    assert appended(updated(herbarium, out)) == appended(before), "another stratum"


def test_updates_give_the_same_bytes_whatever_the_number_of_workers(herbarium: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "one" / "shards", tmp_path / "two" / "shards"]
    for workers, out in enumerate(folders, start=1):
        build_shards(read_folder(herbarium), out, SMALL_SHARDS, workers=workers)
    for number in range(2):
        add(herbarium / "ash" / f"new{number}.jpg")
        for workers, out in enumerate(folders, start=1):
            assert appended(updated(herbarium, out, workers=workers))
    assert_same(*folders)


@pytest.mark.parametrize("gone", ["0.jpg", "new0.jpg"])
def test_a_stratum_that_has_lost_an_image_is_written_anew_and_one_that_was_appended_is_taken_out(
    herbarium: Path, tmp_path: Path, gone: str
) -> None:
    out = tmp_path / "shards"
    build_shards(read_folder(herbarium), out, SMALL_SHARDS)
    for number in range(2):
        add(herbarium / "ash" / f"new{number}.jpg")
    before = updated(herbarium, out)
    (herbarium / "ash" / gone).unlink()
    after = updated(herbarium, out)
    names = [{shard.name for shard in dataset.record.splits["train"].shards} for dataset in (before, after)]
    if gone == "new0.jpg":
        assert appended(after)
        assert len(names[0] - names[1]) == 1
    else:
        assert not appended(after)
    assert list(verify(after)) == []
    assert of_dataset(after) == of_dataset(build_shards(read_folder(herbarium), tmp_path / "afresh"))


def test_a_kill_before_the_release_leaves_the_old_set(
    herbarium: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an appended shard is written, and while the index is."""
    out = tmp_path / "shards"
    old = build_shards(read_folder(herbarium), out, SMALL_SHARDS)
    images = of_dataset(old)
    add(herbarium / "ash" / "new.jpg")
    for step in ("write_tar", "write_columns", "write_manifest"):

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(writing, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            updated(herbarium, out)
        monkeypatch.undo()
        assert Dataset.open(out).fingerprint == old.fingerprint
        assert of_dataset(Dataset.open(out)) == images
        assert list(verify(Dataset.open(out))) == []
    after = updated(herbarium, out)
    assert appended(after)
    assert of_dataset(after) == of_dataset(build_shards(read_folder(herbarium), tmp_path / "afresh"))


def photographs_of(folder: Path, **counts: int) -> Path:
    for name, count in counts.items():
        for number in range(count):
            (folder / name).mkdir(parents=True, exist_ok=True)
            if not (folder / name / f"{number}.jpg").exists():
                add(folder / name / f"{number}.jpg")
    return folder


def test_a_class_that_crosses_the_border_of_its_band_stays_until_the_stratum_is_written_anew(tmp_path: Path) -> None:
    out = tmp_path / "shards"
    build_shards(read_folder(photographs_of(tmp_path / "wood", ash=13, elm=26)), out)
    after = build_shards(read_folder(photographs_of(tmp_path / "wood", ash=14)), out, update=True)
    assert [stratum.band for stratum in after.record.splits["train"].strata] == [14, 18], "of 13 and 26"
    assert len(appended(after)) == 1
    told = summarize(after, ShotsConfig())["splits"]["train"]["strata"][0]
    assert (told["classes"], told["images_per_class"], told["shards"]) == (1, {"least": 14, "most": 14}, 2)
    again = build_shards(read_folder(photographs_of(tmp_path / "wood", ash=16)), out, update=True)
    assert [stratum.band for stratum in again.record.splits["train"].strata] == [16, 18]
    assert not appended(again)


def test_a_class_that_outgrows_its_band_has_its_stratum_written_anew_though_others_have_not_grown(
    tmp_path: Path,
) -> None:
    many = {f"tree{number}": 22 for number in range(8)}  # of at most 22.6 images, an eighth more being 25.5
    build_shards(read_folder(photographs_of(tmp_path / "wood", **many)), tmp_path / "shards")
    for count, bands in ((25, [17]), (26, [17, 18])):
        source = read_folder(photographs_of(tmp_path / "wood", tree3=count))
        after = build_shards(source, tmp_path / "shards", update=True)
        assert [stratum.band for stratum in after.record.splits["train"].strata] == bands
        Planner(after.split("train"), make_sampler(), seed=0, num_epochs=1)
        assert list(verify(after)) == []


def test_a_class_may_come_to_a_stratum_that_stays(tmp_path: Path) -> None:
    many = {f"tree{number}": 20 for number in range(9)}
    build_shards(read_folder(photographs_of(tmp_path / "wood", sorrel=18, **many)), tmp_path / "shards")
    before = times(tmp_path / "shards")
    after = build_shards(read_folder(photographs_of(tmp_path / "wood", sorrel=20)), tmp_path / "shards", update=True)
    record = after.record.splits["train"]
    assert [(stratum.band, stratum.samples) for stratum in record.strata] == [(16, 20), (17, 180)]
    after = build_shards(read_folder(photographs_of(tmp_path / "wood", sorrel=22)), tmp_path / "shards", update=True)
    record = after.record.splits["train"]
    assert [(stratum.band, stratum.samples) for stratum in record.strata] == [(17, 202)], "too large for band 16"
    assert [shard.samples for shard in record.shards] == [180, 22]
    assert [shard.appended for shard in record.shards] == [False, True]
    kept = tmp_path / "shards" / "train" / "shards" / record.shards[0].name
    assert kept.stat().st_mtime_ns == before[kept]
    assert of_dataset(after) == of_dataset(build_shards(read_folder(tmp_path / "wood"), tmp_path / "afresh"))
    assert list(verify(after)) == []


def test_images_are_appended_to_val_and_test_too(herbarium: Path, tmp_path: Path) -> None:
    options, out = BuildOptions(val=0.3, max_shard_bytes=20_000), tmp_path / "shards"
    before = build_shards(read_folder(herbarium), out, options)
    number = 0
    while True:
        add(herbarium / "ash" / f"new{number}.jpg")
        after = build_shards(read_folder(herbarium), out, options, update=True)
        if after.record.splits["val"].samples > before.record.splits["val"].samples:
            break
        number += 1
    shards = after.record.splits["val"].shards
    assert [shard.name for shard in shards if not shard.appended] == [
        shard.name for shard in before.record.splits["val"].shards
    ]
    assert [shard.samples for shard in shards if shard.appended] == [1]
    assert list(verify(after)) == []


def test_an_image_that_has_changed_is_noticed_by_its_time_or_its_size(herbarium: Path, tmp_path: Path) -> None:
    out, notes = tmp_path / "shards", tmp_path / "notes"
    build_shards(read_folder(herbarium), out)
    content = (herbarium / "ash" / "1.jpg").read_bytes()
    status = (herbarium / "ash" / "2.jpg").stat()
    (herbarium / "ash" / "1.jpg").write_bytes(content)  # another time of change
    with open(herbarium / "ash" / "2.jpg", "ab") as file:
        file.write(b"\0")
    os.utime(herbarium / "ash" / "2.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    source = read_folder(herbarium)
    build_shards(replace(source, read=Noted(source.read, notes)), out, update=True)
    assert sorted(notes.read_text().split()) == ["ash/1.jpg", "ash/2.jpg"]


@pytest.mark.parametrize("shard", [0, 999])
def test_an_index_that_points_to_another_shard_is_found_out(herbarium: Path, tmp_path: Path, shard: int) -> None:
    out = tmp_path / "shards"
    build_shards(read_folder(herbarium), out)
    add(herbarium / "ash" / "new.jpg")
    dataset = updated(herbarium, out)
    path = column_path(out / "train", "shard")
    column = np.load(path)
    column[-1] = shard
    np.save(path, column.astype(COLUMNS["shard"]))
    assert ["the shard column does not fit the shards" in problem for problem in verify(dataset)] == [True]
