"""What is in a dataset, and folders of photographs."""

import filecmp
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.shards.manifest import read_manifest


def assert_same(one: Path, other: Path) -> None:
    names = [str(path.relative_to(one)) for path in one.rglob("*") if path.is_file()]
    assert sorted(names) == sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file())
    assert filecmp.cmpfiles(one, other, names, shallow=False)[1:] == ([], [])


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def of_dataset(dataset: Dataset) -> dict[str, list[tuple[str, bytes]]]:
    """Return the class and the JPEG of every sample, sorted, by split; all that makes two datasets the same."""
    found = {}
    for name in dataset.record.splits:
        split = dataset.split(name)
        samples = []
        for sample in range(len(split)):
            with open(split.shard_path(int(split.shard[sample])), "rb") as file:
                file.seek(int(split.offset[sample]))
                jpeg = file.read(int(split.size[sample]))
            samples.append((dataset.record.classes[split.label[sample]].name, jpeg))
        found[name] = sorted(samples)
    return found


def add(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    random = np.random.default_rng(zlib.crc32(f"{path.parent.name}/{path.name}".encode()))
    Image.fromarray(random.integers(0, 256, (24, 30, 3), dtype=np.uint8)).save(path, quality=85)


def split_of_item(dataset: Dataset) -> dict[str, str]:
    names = dataset.record.splits
    return {item: name for name in names for item in read_manifest(dataset.split(name))["item"]}
