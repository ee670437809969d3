"""Thumbnails are small, of the shards that a run was trained on, and made once."""

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.photographs import photograph_source
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.reader import ShardReader
from ltrsys.data.shards.building import build_shards
from ltrsys.errors import DataError
from ltrsys.prediction.loading import LoadedModel
from ltrsys.serving.served import Served
from ltrsys.serving.thumbnails import SIDE, Thumbnails

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build_shards(photograph_source(np.array([2, 2])), tmp_path_factory.mktemp("photographs") / "shards")


def with_shards(served: Served, shards: str | Path) -> LoadedModel:
    model = served.default.model
    data = model.config.data.model_copy(update={"shards": shards})
    return replace(model, config=model.config.model_copy(update={"data": data}))


def test_the_longer_side_is_bounded_and_the_picture_is_the_same(photographs: Dataset) -> None:
    thumbnails = Thumbnails(photographs)
    (content,) = ShardReader(photographs.split("train")).read(np.array([1]))
    whole = Image.open(io.BytesIO(content))
    thumbnail = Image.open(io.BytesIO(thumbnails.read("train", 1)))
    assert max(thumbnail.size) == SIDE
    expected = whole.resize(thumbnail.size, Image.Resampling.BOX)
    difference = np.asarray(thumbnail).astype(float) - np.asarray(expected).astype(float)
    assert np.abs(difference).mean() < 12
    assert [thumbnails.has("train", place) for place in (-1, 0, 3, 4)] == [False, True, True, False]
    assert not thumbnails.has("test", 0)


def test_each_is_made_once(photographs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original: Callable = ShardReader.read
    monkeypatch.setattr(ShardReader, "read", lambda self, samples: read.extend(samples) or original(self, samples))
    thumbnails = Thumbnails(photographs)
    first, again = thumbnails.read("train", 2), thumbnails.read("train", 2)
    assert first is again
    assert read == [2]


def test_a_damaged_shard_is_an_error_of_that_image(photographs: Dataset, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photographs.folder, tmp_path / "shards"))
    (shard,) = (copy / "train" / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    thumbnails = Thumbnails(Dataset.open(copy))
    with pytest.raises(DataError, match="truncated"):
        thumbnails.read("train", 3)
    assert thumbnails.read("train", 0)


def test_other_shards_than_those_of_the_features_are_not_shown(
    served: Served, photographs: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert Thumbnails.of(served.default.model) is not None
    assert Thumbnails.of(with_shards(served, photographs.folder)) is None
    assert "these are not the shards that the features are of" in caplog.text
    assert Thumbnails.of(with_shards(served, tmp_path / "gone")) is None
    assert Thumbnails.of(with_shards(served, "https://example.com/shards")) is None
    (tmp_path / "dataset.json").write_text("{")
    assert Thumbnails.of(with_shards(served, tmp_path)) is None
    assert "There will be no thumbnails: " in caplog.text
