"""Small pictures out of shards."""

import base64
import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from ltrsys.data.index.dataset import Dataset
from ltrsys.pages.thumbnails import SIDE, Thumbnails


def picture(uri: str) -> Image.Image:
    head, data = uri.split(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_picture_is_that_of_the_image_and_is_there_once(tiny_shards: Path) -> None:
    dataset = Dataset.open(tiny_shards)
    thumbnails = Thumbnails()
    assert [thumbnails.of(dataset, "test", sample) for sample in (3, 5, 3)] == [0, 1, 0]
    thumbnails.close()
    split = dataset.split("test")
    content = split.shard_path(int(split.shard[3])).read_bytes()[int(split.offset[3]) :][: int(split.size[3])]
    original = np.asarray(Image.open(io.BytesIO(content)).convert("L"), dtype=float)
    shown = picture(thumbnails.uris[0])
    assert max(shown.size) <= SIDE
    assert np.abs(np.asarray(shown.convert("L"), dtype=float) - original).mean() < 12, "but for WebP's losses"


def test_what_does_not_fit_or_is_damaged_is_left_out(tiny_shards: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(tiny_shards)
    small = Thumbnails(most_bytes=1500)
    places = [small.of(dataset, "test", sample) for sample in range(10)]
    assert None in places
    assert sum(map(len, small.uris)) <= 1500
    assert Thumbnails(wanted=False).of(dataset, "test", 0) is None
    damaged = Dataset.open(Path(shutil.copytree(tiny_shards, tmp_path / "shards")))
    split = damaged.split("test")
    path = split.shard_path(0)
    content = bytearray(path.read_bytes())
    content[int(split.offset[0]) + 50] ^= 255
    path.write_bytes(content)
    thumbnails = Thumbnails()
    assert thumbnails.of(damaged, "test", 0) is None
    assert thumbnails.of(damaged, "test", 1) == 0
