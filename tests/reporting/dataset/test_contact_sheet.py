"""The contact sheet shows the images of the classes that it names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import DataError
from ltrsys.reporting.dataset.contact_sheet import (
    BACKGROUND,
    GAP,
    HEADING,
    IMAGES_OF_A_CLASS,
    NAMES,
    TILE,
    classes_of_parts,
    draw_contact_sheet,
)
from tests.classifiers.runs import without_splits
from tests.conftest import TINY_COUNTS


@pytest.mark.parametrize(
    ("counts", "parts"),
    [
        ([5, 0, 9], {"head": [2], "tail": [0]}),
        ([7], {"head": [0]}),
        ([3, 2, 1], {"head": [0], "middle": [1], "tail": [2]}),
        (list(range(100, 0, -1)), {"head": [0, 1, 2, 3], "middle": [48, 49, 50, 51], "tail": [96, 97, 98, 99]}),
    ],
)
def test_head_middle_and_tail_hold_no_class_twice_and_no_empty_one(counts, parts):
    assert classes_of_parts(np.array(counts)) == parts


def test_each_class_has_as_many_images_as_there_are_and_its_name(tiny_shards: Path, tmp_path: Path) -> None:
    draw_contact_sheet(Dataset.open(tiny_shards), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image.convert("RGB"))
    top, rows = HEADING, []
    for classes in classes_of_parts(np.array(TINY_COUNTS)).values():
        top += HEADING
        for label in classes:
            rows.append((label, sheet[top : top + TILE]))
            top += TILE + GAP
    assert len(rows) == 12
    assert top + GAP == len(sheet)
    for label, row in rows:
        assert (row[:, : NAMES - GAP] < 128).any(), "a name and a number are written there"
        tiles = [row[:, NAMES + GAP + place * (TILE + GAP) :][:, :TILE] for place in range(IMAGES_OF_A_CLASS)]
        drawn = [bool((tile < 255).any()) for tile in tiles]
        assert sum(drawn) == min(IMAGES_OF_A_CLASS, TINY_COUNTS[label])
        assert not any((tile[0] == BACKGROUND).all() for tile, there in zip(tiles, drawn, strict=True) if there)


def test_without_training_images_there_is_no_sheet(tiny_shards: Path, tmp_path: Path) -> None:
    only_val = without_splits(tiny_shards, tmp_path / "val", "train")
    with pytest.raises(DataError, match="there is no `train` split"):
        draw_contact_sheet(Dataset.open(only_val), tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
