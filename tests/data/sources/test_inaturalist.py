"""The JSON files of the competitions, as each year had them."""

import json
from pathlib import Path
from typing import Any

import pytest

from ltrsys.data.sources.inaturalist import read_inaturalist
from ltrsys.errors import DataError

CATEGORIES: dict[int, list[dict[str, Any]]] = {
    2017: [
        {"id": 0, "name": "Loxia curvirostra", "supercategory": "Aves"},
        {"id": 7, "name": "Acer rubrum", "supercategory": "Plantae"},
    ],
    2018: [  # obfuscated: the names are numbers
        {"id": 0, "name": "0", "supercategory": "Plantae"},
        {"id": 7, "name": "1", "supercategory": "Plantae"},
    ],
    2019: [{"id": 0, "name": "ABCDE", "class": "Aves"}, {"id": 7}],
    2021: [
        {
            "id": identity,
            "name": name,
            "common_name": common,
            "supercategory": group,
            "kingdom": "Animalia",
            "image_dir_name": f"{identity:05d}_{name}",
        }
        for identity, name, common, group in [
            (0, "Lumbricus terrestris", "Earthworm", "Animalia"),
            (7, "X y", "", "Fungi"),
        ]
    ],
}
FILE_NAMES = {
    2017: "train_val_images/Aves/Loxia curvirostra/{}.jpg",
    2018: "train_val2018/Aves/2761/{}.jpg",
    2019: "train_val2019/Plants/400/{}.jpg",
    2021: "train/02912_Animalia_Chordata_X y/{}.jpg",
}


def competition(year: int, split: str, images: list[tuple[int, int]]) -> dict[str, Any]:
    """A file with `images` as pairs of image id and category id."""
    return {
        "info": {"year": year},
        "images": [
            {"id": image, "file_name": FILE_NAMES[year].format(f"{split}{image}"), "width": 800, "height": 600}
            for image, _ in images
        ],
        "licenses": [],
        # Annotations stand in another order than the images.
        "annotations": [
            {"id": image, "image_id": image, "category_id": category} for image, category in reversed(images)
        ],
        "categories": CATEGORIES[year],
    }


def write_competition(root: Path, year: int) -> tuple[Path, Path]:
    suffix = "" if year == 2021 else str(year)
    train, val = root / f"train{suffix}.json", root / f"val{suffix}.json"
    train.write_text(json.dumps(competition(year, "t", [(10, 7), (11, 0), (12, 7)])))
    val.write_text(json.dumps(competition(year, "v", [(20, 0)])))
    return train, val


@pytest.mark.parametrize("year", CATEGORIES)
def test_every_year_is_read(tmp_path: Path, year: int) -> None:
    write_competition(tmp_path, year)
    source = read_inaturalist(tmp_path)
    train, test = source.splits["train"], source.splits["test"]
    assert train.names == [FILE_NAMES[year].format(f"t{image}") for image in (10, 11, 12)]
    assert train.labels.tolist() == [1, 0, 1], "class ids follow the order of the categories"
    assert test.labels.tolist() == [0]
    assert [record.source_id for record in source.classes] == ["0", "7"]


def test_names_and_supercategories_are_kept_where_given(tmp_path: Path) -> None:
    write_competition(tmp_path, 2021)
    first = read_inaturalist(tmp_path).classes[0]
    assert (first.name, first.supercategory) == ("Lumbricus terrestris", "Animalia")
    (tmp_path / "b").mkdir()
    write_competition(tmp_path / "b", 2019)
    nameless = read_inaturalist(tmp_path / "b").classes[1]
    assert (nameless.name, nameless.supercategory) == ("category 7", None)


def test_the_files_can_be_named(tmp_path: Path) -> None:
    train, val = write_competition(tmp_path, 2018)
    source = read_inaturalist(tmp_path, {"train": train, "val": val})
    assert set(source.splits) == {"train", "val"}


def test_two_training_files_must_be_told_apart(tmp_path: Path) -> None:
    write_competition(tmp_path, 2021)
    (tmp_path / "train_mini.json").write_text("{}")
    with pytest.raises(DataError, match=r"expected one train\*.json here, found train.json, train_mini.json. Name it"):
        read_inaturalist(tmp_path)


def test_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected one train\*.json here, found none"):
        read_inaturalist(tmp_path)


def _without_annotation(content: dict[str, Any]) -> None:
    del content["annotations"][0]


def _test_set(content: dict[str, Any]) -> None:
    del content["annotations"]


def _unknown_category(content: dict[str, Any]) -> None:
    content["annotations"][1]["category_id"] = 99


def _two_categories(content: dict[str, Any]) -> None:
    content["annotations"].append({"image_id": 10, "category_id": 0})


def _same_category_twice(content: dict[str, Any]) -> None:
    content["categories"] = [*content["categories"], content["categories"][0]]


def _outside(content: dict[str, Any]) -> None:
    content["images"][0]["file_name"] = "../../etc/passwd"


def _twice(content: dict[str, Any]) -> None:
    content["images"][1]["file_name"] = content["images"][0]["file_name"]


def _nameless(content: dict[str, Any]) -> None:
    del content["images"][2]["file_name"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_annotation, r"train2018.json: images\[2\]: image 12 has no annotation"),
        (_test_set, "train2018.json: .*`annotations` is missing or empty"),
        (_unknown_category, r"annotations\[1\]: category_id 99 is not among `categories`"),
        (_two_categories, r"annotations\[3\]: image 10 already has another category"),
        (_same_category_twice, "two entries of `categories` have the same id"),
        (_outside, r"images\[0\]: `../../etc/passwd` leads out of the root"),
        (_twice, r"images\[1\]: .* is listed a second time"),
        (_nameless, r"images\[2\]: expected an object with id, file_name"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    train, _ = write_competition(tmp_path, 2018)
    content = json.loads(train.read_text())
    damage(content)
    train.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_inaturalist(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{", '{"images": 3}'])
def test_what_is_no_annotation_file_is_said(tmp_path: Path, text: str) -> None:
    train, _ = write_competition(tmp_path, 2018)
    train.write_text(text)
    with pytest.raises(DataError, match=r"train2018.json: not an? annotation file of iNaturalist"):
        read_inaturalist(tmp_path)
