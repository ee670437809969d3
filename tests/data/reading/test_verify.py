"""Every kind of damage is found, and the shard and the sample are named."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.verify import verify


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(tiny_shards, tmp_path / "copy")
    return tmp_path / "copy"


def problems(folder: Path) -> list[str]:
    found = list(verify(Dataset.open(folder)))
    assert all("\n" not in problem for problem in found)
    return found


def change(path: Path, place: int, new: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(new)


def test_a_whole_dataset_has_no_problem(tiny_shards: Path) -> None:
    assert problems(tiny_shards) == []


def test_several_processes_find_the_same(shards: Path) -> None:
    (shards / "val/shards/val-000000.tar").unlink()
    assert list(verify(Dataset.open(shards), workers=2)) == problems(shards) != []


def test_a_missing_shard_is_named_with_its_samples(shards: Path) -> None:
    (shards / "val/shards/val-000000.tar").unlink()
    (problem,) = problems(shards)
    assert "val-000000.tar: this shard, of samples 0 to 119, is missing" in problem
    assert "`ltrsys shards`" in problem


def test_a_truncated_shard_names_the_first_sample_that_is_cut_off(shards: Path) -> None:
    split = Dataset.open(shards).split("test")
    path = split.shard_path(0)
    whole = path.stat().st_size
    with open(path, "r+b") as file:
        file.truncate(int(split.offset[7] + split.size[7]) - 1)
    (problem,) = problems(shards)
    assert f"of {whole} bytes are there, and sample 7 is the first that is cut off. Delete this shard" in problem
    with open(path, "r+b") as file:
        file.truncate(int(split.offset[239] + split.size[239]) + 600)
    (problem,) = problems(shards)
    assert "only its end mark is cut off" in problem


def test_a_longer_shard_is_found(shards: Path) -> None:
    with open(shards / "val/shards/val-000000.tar", "ab") as file:
        file.write(b"more")
    (problem,) = problems(shards)
    assert "bytes long instead of" in problem


def test_one_flipped_bit_inside_an_image_is_found(shards: Path) -> None:
    split = Dataset.open(shards).split("val")
    place = int(split.offset[50] + split.size[50]) - 30
    path = split.shard_path(0)
    change(path, place, bytes([path.read_bytes()[place] ^ 1]))
    (problem,) = problems(shards)
    assert "(sample 50): its bytes do not have the checksum of the index. Delete this shard" in problem


def test_one_flipped_bit_between_the_images_is_found(shards: Path) -> None:
    path = Dataset.open(shards).split("val").shard_path(0)
    change(path, path.stat().st_size - 5, b"x")
    (problem,) = problems(shards)
    assert "val-000000.tar: its checksum is not that of dataset.json" in problem


def test_a_changed_column_that_fits_all_the_same_is_found(shards: Path) -> None:
    with open(shards / "val/index/height.npy", "ab") as file:
        file.write(b"x")
    (problem,) = problems(shards)
    assert "val/index/height.npy: its checksum is not that of dataset.json. Delete" in problem


@pytest.mark.parametrize(
    ("where", "new", "message"),
    [
        (-512, b"moose", "the shard has `.*cls` and `moose.*jpg` there|no member of a tar file"),
        (-512, b"\0" * 512, "no member of a tar file at byte"),
        (-1024, b"8", r"class 8.*, but \d+ in the index"),
        (0, b"not a JPEG at all, no", "there is no JPEG at this place"),
    ],
    ids=["name", "header", "label", "image"],
)
def test_damage_to_a_sample_names_it(shards: Path, where: int, new: bytes, message: str) -> None:
    split = Dataset.open(shards).split("val")
    sample = int(np.flatnonzero(split.label != 8)[60])
    change(split.shard_path(0), int(split.offset[sample]) + where, new)
    (problem,) = problems(shards)
    assert f"val-000000.tar at byte {split.offset[sample]} (sample {sample}): " in problem
    assert re.search(message, problem)
    assert problem.endswith("Delete this shard and run the same `ltrsys shards` command again.")


@pytest.mark.parametrize(
    ("column", "edit", "message"),
    [
        ("offset", lambda values: values[[1, 0, *range(2, len(values))]], "(sample 0): the shard has `000000001.cls`"),
        ("offset", lambda values: values + np.uint64(512), "(sample 0): there is no member"),
        ("offset", lambda values: values * np.uint64(1000), "(sample 0): the index points to bytes"),
        ("size", lambda values: values + np.uint32(1), "(sample 0): the image has"),
        ("width", lambda values: values + np.uint16(1), "(sample 0): the image has 32 x 32 pixels, but 33 x 32"),
        ("label", lambda values: values[::-1], "(sample 0): class 0, but 11 in the index"),
        ("checksum", lambda values: values + np.uint32(1), "(sample 0): its bytes do not have the checksum"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_told_from_damage(
    shards: Path, column: str, edit: Callable[[Any], Any], message: str
) -> None:
    path = shards / f"val/index/{column}.npy"
    np.save(path, edit(np.load(path)))
    (problem,) = problems(shards)
    assert message in problem
    assert "The shard is intact, so the index belongs to another build" in problem


def _edit_record(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((folder / "dataset.json").read_text())
    edit(record)
    (folder / "dataset.json").write_text(json.dumps(record))


def test_an_index_that_contradicts_itself_is_found_before_any_shard_is_read(shards: Path) -> None:
    label = shards / "val/index/label.npy"
    values = np.load(label)
    np.save(label, np.where(np.arange(len(values)) == 5, 12, values).astype(np.int32))
    assert "sample 5 has label 12 of 12 classes" in problems(shards)[0]
    np.save(label, np.where(np.arange(len(values)) == 5, 11, values).astype(np.int32))
    assert "the labels do not add up to the class counts" in problems(shards)[0]
    np.save(label, values)
    assert problems(shards) == []

    def move_a_sample(record: dict[str, Any]) -> None:
        first, second = record["splits"]["train"]["shards"][:2]
        first["samples"], second["samples"] = first["samples"] + 1, second["samples"] - 1

    _edit_record(shards, move_a_sample)
    assert "the shard column does not fit the shards" in problems(shards)[0]


def test_strata_that_leave_a_gap_are_found(shards: Path) -> None:
    _edit_record(shards, lambda record: record["splits"]["train"]["strata"].pop(1))
    assert "the strata of dataset.json do not cover its samples" in problems(shards)[0]


def test_the_checksum_is_that_of_the_file(tiny_shards: Path) -> None:
    train = Dataset.open(tiny_shards).split("train")
    for shard, record in enumerate(train.record.shards):
        assert hashlib.sha256(train.shard_path(shard).read_bytes()).hexdigest() == record.sha256
