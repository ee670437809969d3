"""Files of every kind become the pixels of shards built from them; what is damaged is told, and harms no other."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltrsys.data.config import DataConfig, Interpolation
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.augmentation import Augmentation
from ltrsys.data.loading.loader import EvaluationLoader
from ltrsys.data.loading.pipeline import ImagePipeline
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.folder import read_folder
from ltrsys.data.validation.images import as_stored, check_image
from ltrsys.prediction.images.batches import BatchReader
from ltrsys.prediction.images.collections import Files, InMemory
from ltrsys.world import World
from tests.data.sources.pictures import FORMAT_OF_ENDING, encode

CPU = torch.device("cpu")
CONFIG = DataConfig(shards="nowhere", image_size=28, resize=32, threads=1)


def photograph(seed: int, size: tuple[int, int] = (60, 45)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def read(
    items: object, *, batch_size: int = 4, reduced_to: int | None = None, config: DataConfig = CONFIG
) -> tuple[torch.Tensor, list[str | None]]:
    images = items if isinstance(items, Files) else InMemory(items)  # type: ignore[arg-type]
    with BatchReader(config, reduced_to=reduced_to, batch_size=batch_size, device=CPU) as reader:
        batches = list(reader.batches(images, range(len(images))))
    assert [place for batch in batches for place in batch.places] == list(range(len(images)))
    return torch.cat([batch.pixels for batch in batches]), [one for batch in batches for one in batch.problems]


@pytest.mark.parametrize(("resize", "interpolation"), [(None, "bilinear"), (40, "bilinear"), (None, "bicubic")])
def test_files_of_every_format_give_the_pixels_of_shards_built_from_them(
    tmp_path: Path, resize: int | None, interpolation: Interpolation
) -> None:
    config = CONFIG.model_copy(update={"interpolation": interpolation})
    folder = tmp_path / "photographs" / "one"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, (ending, image_format) in enumerate(sorted(FORMAT_OF_ENDING.items())):
        (folder / f"{number:02d}{ending}").write_bytes(encode(photograph(number), image_format))
    photograph(98).save(folder / "98.jpg", exif=exif, quality=90)
    photograph(99).convert("CMYK").save(folder / "99.jpg", quality=90)
    shards = tmp_path / "shards"
    build_shards(read_folder(folder.parent), shards, BuildOptions(resize=resize))
    split = Dataset.open(shards).split("train")
    loader = EvaluationLoader(split, config, batch_size=4, world=World(), device=CPU)
    of_shards = torch.cat([batch.images for batch in loader])
    loader.close()
    paths = sorted(str(path) for path in folder.iterdir())
    of_files, problems = read(Files(paths), reduced_to=resize, config=config)
    assert problems == [None] * len(paths)
    assert len(of_files) == len(of_shards) > 15
    # a build mixes the images of a class: each of them is found once among those of the shards
    found = [int((of_shards == pixels).flatten(1).all(dim=1).nonzero()[0, 0]) for pixels in of_files]
    assert sorted(found) == list(range(len(paths)))


def test_what_is_passed_on_is_what_the_check_makes() -> None:
    for data in (encode(photograph(0), "JPEG"), encode(photograph(1), "JPEG", progressive=True)):
        stored, checked = as_stored(data), check_image(data)
        assert (stored.jpeg, stored.width, stored.height) == (checked.jpeg, checked.width, checked.height)
        assert stored.jpeg is data
        assert as_stored(data, resize=20).jpeg == check_image(data, resize=20).jpeg != data


def bomb() -> bytes:
    """Return a PNG of some kilobytes that claims 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def damaged() -> dict[str, tuple[bytes, str]]:
    whole = encode(photograph(5, (500, 400)), "JPEG", quality=95)
    progressive = encode(photograph(5, (500, 400)), "JPEG", quality=95, progressive=True)
    no_image = whole[: whole.index(b"\xff\xda")] + b"\xff\xd9"
    huge = bytearray(whole)
    place = huge.index(b"\xff\xc0")
    huge[place + 5 : place + 9] = struct.pack(">HH", 20_000, 20_000)
    return {
        "cut in the middle": (whole[: len(whole) // 2], "it cannot be decoded"),
        "cut at the end": (whole[:-2], "it cannot be decoded"),
        "progressive, cut": (progressive[: len(progressive) // 2], "it cannot be decoded"),
        "without image data": (no_image, "it cannot be decoded"),
        "a text": (b"no image at all", "not an image of a known format"),
        "empty": (b"", "the file is empty"),
        "a bomb": (bomb(), "it claims more than 178956970 pixels"),
        "a JPEG that claims too much": (bytes(huge), "it claims more than 178956970 pixels"),
        "a thread": (encode(Image.new("RGB", (2000, 4)), "JPEG"), "one side is over 100 times as long"),
    }


@pytest.mark.parametrize("what", damaged())
@pytest.mark.long
def test_what_is_damaged_is_told_and_its_neighbours_stay_as_they_are(what: str) -> None:
    data, said = damaged()[what]
    good = [encode(photograph(seed), "JPEG") for seed in range(6)]
    expected, _ = read(good, batch_size=1)
    pixels, problems = read([*good[:2], data, *good[2:4], data, *good[4:]], batch_size=3)
    assert [problem is not None for problem in problems] == [False, False, True, False, False, True, False, False]
    assert said in str(problems[2])
    kept = [place for place, problem in enumerate(problems) if problem is None]
    assert torch.equal(pixels[kept], expected)


def test_what_dali_alone_cannot_decode_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode(photograph(5, (500, 400)), "JPEG", quality=95)
    cut = whole[: len(whole) // 2] + b"\xff\xd9"
    good = encode(photograph(1), "JPEG")
    # as if Pillow could read what DALI cannot: this one both refuse
    bad = whole[: whole.index(b"\xff\xda")] + b"\xff\xd9"
    monkeypatch.setattr("ltrsys.prediction.images.batches.check_image", lambda data: None)
    pixels, problems = read([good, bad, cut, good])
    assert [problem is None for problem in problems] == [True, False, True, True]
    assert "it cannot be decoded" in str(problems[1])
    assert torch.equal(pixels[0], pixels[3])


def test_an_iterator_that_was_left_harms_none_that_follows() -> None:
    images = InMemory([encode(photograph(seed), "JPEG") for seed in range(20)])
    with BatchReader(CONFIG, reduced_to=None, batch_size=2, device=CPU) as reader:
        left = reader.batches(images, range(20))
        first = next(left)
        again = list(reader.batches(images, [3, 0, 1]))
    assert [list(batch.places) for batch in again] == [[3, 0], [1]]
    assert torch.equal(again[0].pixels[1], first.pixels[0])


def test_no_image_gives_no_batch() -> None:
    with BatchReader(CONFIG, reduced_to=None, batch_size=2, device=CPU) as reader:
        assert list(reader.batches(InMemory([]), [])) == []


def test_batches_of_which_nothing_can_be_read_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    feed = ImagePipeline.feed

    def counted(self: ImagePipeline, encoded: Sequence[bytes], augmentation: Augmentation) -> None:
        fed.append(len(encoded))
        feed(self, encoded, augmentation)

    monkeypatch.setattr(ImagePipeline, "feed", counted)
    whole = [encode(photograph(seed), "JPEG") for seed in range(5)]
    pixels, problems = read([b"", b"", *whole[:2], whole[2], b"", b"", b"", b"", b"", *whole[3:]], batch_size=2)
    assert fed == [2, 2, 2]
    assert [place for place, problem in enumerate(problems) if problem is None] == [2, 3, 4, 10, 11]
    assert torch.equal(pixels[[2, 3, 4, 10, 11]], read(whole, batch_size=2)[0])
