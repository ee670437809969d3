"""Which formats are taken, and how files are told apart."""

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ltrsys.data.sources.files.formats import FORMATS, IMAGE_ENDINGS, NO_PHOTOGRAPH_ENDINGS, SURE_FORMATS, holds_image
from ltrsys.data.sources.folder import read_folder
from ltrsys.data.sources.lists import read_lists
from ltrsys.errors import DataError
from tests.data.sources.pictures import FORMAT_OF_ENDING, encode, picture


def test_every_format_that_pillow_knows_is_taken_or_left_out_for_a_reason() -> None:
    Image.init()
    assert set(Image.OPEN) - set(FORMATS) == {"BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS"}
    assert set(FORMATS) <= set(Image.OPEN)


def test_the_endings_are_those_of_the_formats() -> None:
    Image.init()
    assert {Image.EXTENSION[ending] for ending in IMAGE_ENDINGS} <= {*FORMATS, "MPO"}
    assert not IMAGE_ENDINGS & NO_PHOTOGRAPH_ENDINGS


@pytest.mark.parametrize("image_format", sorted({*FORMAT_OF_ENDING.values()} & set(SURE_FORMATS)))
def test_an_image_is_told_by_its_beginning_and_noise_is_none(tmp_path: Path, image_format: str) -> None:
    path = tmp_path / "file"
    data = encode(picture(), image_format)
    path.write_bytes(data)
    assert holds_image(str(path))
    path.write_bytes(bytes(len(data)))
    assert not holds_image(str(path))


def test_an_image_that_is_too_large_is_one_for_validation_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl" / "large").write_bytes(b"P6 99999 99999 255\n")
    assert read_folder(tmp_path).splits["train"].names == ["owl/large"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl" / "0.jpg").touch()
    (tmp_path / "list.txt").write_text("owl/0.jpg 0\n")
    scandir = os.scandir

    def refuse(path: Any) -> Any:  # root may read everything
        if os.path.basename(path) == "owl":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    message = r"owl: this folder cannot be read \(Permission denied\). Change that"
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path)
    with pytest.raises(DataError, match=message):
        read_lists(tmp_path, {"train": tmp_path / "list.txt"})
