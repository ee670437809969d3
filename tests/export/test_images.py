"""The images that exports are tried on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ltrsys.data.config import DataConfig
from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.errors import DataError
from ltrsys.export.images import Noise, ShardImages, as_bytes, normalised, spread_over_classes
from ltrsys.models.signature import Preprocessing

PREPROCESSING = Preprocessing(
    reduced_to=None, resize=12, image_size=10, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def chosen(split: Split, number: int, shards: Path) -> ShardImages:
    config = DataConfig(shards=shards, image_size=10, resize=12, threads=1, decode="gpu")
    return ShardImages.choose(split, number, config, PREPROCESSING, seed=3)


def test_every_class_has_as_many_as_there_can_be() -> None:
    labels = np.repeat(np.arange(5), [100, 1, 7, 0, 40]).astype(np.int32)
    for number in (0, 3, 4, 20, 1000):
        places = spread_over_classes(labels, number, seed=0)
        assert len(set(places.tolist())) == len(places) == min(number, len(labels))
        assert (np.diff(places) > 0).all()
        counts = np.bincount(labels[places], minlength=5)
        most = counts.max()
        assert all(count >= most - 1 or count == own for count, own in zip(counts, np.bincount(labels), strict=True))


def test_the_choice_depends_on_the_seed_alone() -> None:
    labels = np.repeat(np.arange(5), 20)
    first, again, other = (spread_over_classes(labels, 10, seed=seed) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


def test_images_of_shards_are_those_of_evaluation_whatever_decodes_in_training(tiny_shards: Path) -> None:
    images = chosen(Dataset.open(tiny_shards).split("test"), 40, tiny_shards)
    batches = list(images.batches())
    pixels, labels = torch.cat([pixels for pixels, _ in batches]), np.concatenate([labels for _, labels in batches])
    assert pixels.shape == (40, 3, 10, 10)
    assert sorted(np.bincount(labels).tolist()) == [3] * 8 + [4] * 4
    # a grey level is more than 0.01
    again = normalised(as_bytes(pixels, PREPROCESSING), PREPROCESSING)
    torch.testing.assert_close(again, pixels, rtol=0, atol=1e-5)
    assert str(images) == "40 images of test"


def test_images_that_cannot_be_read_are_left_out(tiny_shards: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    split = Dataset.open(shards).split("test")
    for number in range(len(split.record.shards)):
        path = split.shard_path(number)
        content = bytearray(path.read_bytes())
        own = np.flatnonzero(split.shard == number)
        for sample in own[: len(own) // 2]:
            content[int(split.offset[sample]) + 30] ^= 255
        path.write_bytes(content)
    labels = np.concatenate([labels for _, labels in chosen(split, 240, shards).batches()])
    assert len(labels) == 120
    for number in range(len(split.record.shards)):
        split.shard_path(number).write_bytes(b"\0" * split.shard_path(number).stat().st_size)
    with pytest.raises(DataError, match="none of 240 images of test can be read"):
        list(chosen(split, 240, shards).batches())


def test_noise_is_the_same_each_time() -> None:
    first, again = (torch.cat([pixels for pixels, _ in Noise(40, PREPROCESSING).batches()]) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (40, 3, 10, 10)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[32])
