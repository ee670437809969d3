"""Folders of photographs."""

from pathlib import Path

import pytest
from PIL import Image

from tests.data.shards.datasets import add


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of four small JPEGs in a folder each."""
    for label, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / "photos" / "train" / name).mkdir(parents=True)
        for number in range(4):
            image = Image.new("RGB", (24 + number, 16 + label), (60 * label, 50 * number, 90))
            image.save(tmp_path / "photos" / "train" / name / f"{number}.jpg")
    return tmp_path / "photos"


@pytest.fixture
def herbarium(tmp_path: Path) -> Path:
    """Three classes of 40, 12 and 4 photographs: three strata."""
    for name, count in (("ash", 40), ("elm", 12), ("oak", 4)):
        (tmp_path / "herbarium" / name).mkdir(parents=True)
        for number in range(count):
            add(tmp_path / "herbarium" / name / f"{number}.jpg")
    return tmp_path / "herbarium"
