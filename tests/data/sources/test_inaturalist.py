"""The JSON files of the competitions, as each year had them."""

import json
import logging
from collections.abc import Callable
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
    for name in ("t10", "t11", "t12", "v20"):
        image = root / FILE_NAMES[year].format(name)
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    return train, val


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what stands in a file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


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
        (_two_categories, r"1 of 3 images have annotations of several classes, .*images\[0\], `.*t10.jpg`"),
        (_same_category_twice, r"categories\[2\] has the id 0, which .*categories\[0\] has already"),
        (_outside, r"images\[0\]: `../../etc/passwd` leads out of the root"),
        (_twice, r"images\[1\]: .* is listed a second time"),
        (_nameless, r"images\[2\]: expected an object with id, file_name"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    train, _ = write_competition(tmp_path, 2018)
    changed(train, damage)
    with pytest.raises(DataError, match=message):
        read_inaturalist(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{", '{"images": 3}'])
def test_what_is_no_annotation_file_is_said(tmp_path: Path, text: str) -> None:
    train, _ = write_competition(tmp_path, 2018)
    train.write_text(text)
    with pytest.raises(DataError, match=r"train2018.json: not an? annotation file of iNaturalist"):
        read_inaturalist(tmp_path)


@pytest.mark.parametrize(
    ("table", "key", "value", "message"),
    [
        ("images", "file_name", None, r"images\[1\]: `file_name` is `null`; expected a text"),
        ("images", "file_name", 7, r"images\[1\]: `file_name` is `7`; expected a text"),
        ("images", "id", 1.5, r"images\[1\]: `id` is `1.5`; expected a whole number or a text"),
        ("images", "id", True, r"images\[1\]: `id` is `true`; expected a whole number or a text"),
        ("images", "id", 10**30, r"images\[1\]: `id` is `10+`; expected a whole number or a text"),
        (
            "images",
            "rights_holder",
            ["Ann"],
            r"images\[1\]: `rights_holder` is `\[\"Ann\"\]`; expected a text, a number",
        ),
        ("images", "file_name", "a\0.jpg", r"images\[1\]: `a\\x00.jpg` can be no path"),
        ("images", "file_name", "a\nb.jpg", r"images\[1\]: there is no `a\\nb.jpg` below"),
        ("images", "file_name", "", r"images\[1\]: there is no `` below"),
        ("annotations", "image_id", [1], r"annotations\[1\]: `image_id` is `\[1\]`; expected a whole number or a text"),
        ("annotations", "category_id", None, r"annotations\[1\]: `category_id` is `null`; expected a whole number"),
        (
            "categories",
            "name",
            {"en": "oak"},
            r"categories\[1\]: `name` is `.*oak.*`; expected a text, a number or null",
        ),
        ("categories", "class", [], r"categories\[1\]: `class` is `\[\]`; expected a text, a number or null"),
    ],
)
def test_a_value_of_a_wrong_type_is_named(tmp_path: Path, table: str, key: str, value: Any, message: str) -> None:
    train, _ = write_competition(tmp_path, 2018)
    changed(train, lambda content: content[table][1].update({key: value}))
    with pytest.raises(DataError, match=f"train2018.json: {message}") as error:
        read_inaturalist(tmp_path)
    assert "\n" not in str(error.value)


def test_a_value_of_a_wrong_type_is_named_far_behind_too(tmp_path: Path) -> None:
    train, _ = write_competition(tmp_path, 2018)
    changed(train, lambda content: content["images"].extend({"id": 100 + k, "file_name": "x"} for k in range(20_000)))
    changed(train, lambda content: content["images"][15_000].update(file_name=None))
    with pytest.raises(DataError, match=r"images\[15000\]: `file_name` is `null`"):
        read_inaturalist(tmp_path)


@pytest.mark.parametrize("entry", [None, 7, "x", [1]])
def test_an_entry_that_is_no_object_is_named(tmp_path: Path, entry: Any) -> None:
    train, _ = write_competition(tmp_path, 2018)
    changed(train, lambda content: content["annotations"].append(entry))
    with pytest.raises(DataError, match=r"annotations\[3\]: expected an object with image_id, category_id"):
        read_inaturalist(tmp_path)


def test_a_byte_order_mark_is_taken_and_other_encodings_are_named(tmp_path: Path) -> None:
    train, _ = write_competition(tmp_path, 2018)
    changed(train, lambda content: content["images"][0].update(file_name="grün.jpg"))
    (tmp_path / "grün.jpg").touch()
    text = json.dumps(json.loads(train.read_text()), ensure_ascii=False)
    train.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_inaturalist(tmp_path).splits["train"].names[0] == "grün.jpg"
    train.write_text(text, encoding="utf-16")
    with pytest.raises(DataError, match=r"train2018.json:1: this annotation file is UTF-16. Turn it"):
        read_inaturalist(tmp_path)
    train.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"train2018.json:1: this line is not UTF-8, and perhaps Latin-1"):
        read_inaturalist(tmp_path)


def test_two_categories_of_one_name_are_an_error_or_merged(tmp_path: Path) -> None:
    train, _ = write_competition(tmp_path, 2017)
    for path in tmp_path.glob("*.json"):
        changed(path, lambda content: content["categories"].append({"id": 9, "name": "Loxia curvirostra"}))
    changed(train, lambda content: content["annotations"][0].update(category_id=9))
    message = r"two categories are called `Loxia curvirostra`, with the ids 0 and 9. Rename one, or .*--merge-classes"
    with pytest.raises(DataError, match=message):
        read_inaturalist(tmp_path)
    merged = read_inaturalist(tmp_path, merge_classes=True)
    assert [record.name for record in merged.classes] == ["Loxia curvirostra", "Acer rubrum"]
    assert [record.source_id for record in merged.classes] == ["0,9", "7"]
    assert merged.splits["train"].labels.tolist() == [1, 0, 0]


def _annotate(image: int, category: int) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["annotations"].append({"image_id": image, "category_id": category})


def test_an_image_with_two_boxes_of_one_category_is_fine(tmp_path: Path) -> None:
    train, _ = write_competition(tmp_path, 2018)
    changed(train, _annotate(10, 7))
    assert read_inaturalist(tmp_path).splits["train"].labels.tolist() == [1, 0, 1]


def test_images_of_several_classes_are_an_error_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, _ = write_competition(tmp_path, 2018)
    for image, category in [(10, 0), (10, 7), (12, 0), (12, 0), (12, 0)]:
        changed(train, _annotate(image, category))
    with pytest.raises(DataError, match=r"2 of 3 images have .* the first of them images\[0\].*with --ambiguous skip"):
        read_inaturalist(tmp_path)
    with caplog.at_level(logging.WARNING, "ltrsys"):
        items = read_inaturalist(tmp_path, ambiguous="skip").splits["train"]
    assert "2 of 3 images have annotations of several classes" in caplog.text
    assert (items.names, items.labels.tolist()) == ([FILE_NAMES[2018].format("t11")], [0])
    changed(train, _annotate(11, 7))
    with pytest.raises(DataError, match=r"3 of 3 images .*: no image is left"):
        read_inaturalist(tmp_path, ambiguous="skip")


def test_one_file_in_train_and_val_is_an_error_that_names_both_places(tmp_path: Path) -> None:
    _, val = write_competition(tmp_path, 2018)
    name = FILE_NAMES[2018].format("t11")
    changed(val, lambda content: content["images"][0].update(file_name=f"./{name}"))
    message = rf"val2018.json: images\[0\]: `{name}` is listed a second time, first at .*train2018.json: images\[1\]"
    with pytest.raises(DataError, match=message):
        read_inaturalist(tmp_path)


def test_two_images_of_one_id_are_an_error_that_names_both(tmp_path: Path) -> None:
    train, _ = write_competition(tmp_path, 2018)
    changed(train, lambda content: content["images"][2].update(id=10))
    message = r"images\[2\] \(`.*t12.jpg`\) has the id 10, which .*images\[0\] \(`.*t10.jpg`\) has already"
    with pytest.raises(DataError, match=message):
        read_inaturalist(tmp_path)


@pytest.mark.parametrize("table", ["images", "annotations", "categories"])
@pytest.mark.parametrize("file", ["train2018.json", "val2018.json"])
def test_ids_that_are_texts_in_one_table_alone_are_the_same_ids(tmp_path: Path, table: str, file: str) -> None:
    write_competition(tmp_path, 2018)
    expected = read_inaturalist(tmp_path)

    def with_texts(content: dict[str, Any]) -> None:
        for entry in content[table]:
            for key in entry.keys() & {"id", "image_id", "category_id"}:
                entry[key] = str(entry[key])

    changed(tmp_path / file, with_texts)
    found = read_inaturalist(tmp_path)
    for split, items in expected.splits.items():
        assert found.splits[split].labels.tolist() == items.labels.tolist()
    assert [record.source_id for record in found.classes] == ["0", "7"]


def test_ids_of_mixed_types_that_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    train, _ = write_competition(tmp_path, 2018)
    changed(train, lambda content: content["images"][1].update(id="10"))
    message = r"images\[1\] .* has the text '10' as its id, and .*images\[0\] .* the number 10; .* Give each its own"
    with pytest.raises(DataError, match=message):
        read_inaturalist(tmp_path)
    changed(train, lambda content: content["images"][1].update(id="011"))
    with pytest.raises(
        DataError, match=r"images\[1\]: image '011' has no annotation \(some ids are numbers and others"
    ):
        read_inaturalist(tmp_path)


def test_a_category_with_another_name_in_the_second_file_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, val = write_competition(tmp_path, 2017)
    with caplog.at_level(logging.WARNING, "ltrsys"):
        read_inaturalist(tmp_path)
        assert not caplog.text
        changed(val, lambda content: content["categories"][0].update(name="Acer rubrum"))
        read_inaturalist(tmp_path)
    assert "id 0: `Loxia curvirostra` there and `Acer rubrum` here" in caplog.text


def test_a_missing_image_is_named_with_the_nearest_and_other_spellings_are_taken(tmp_path: Path) -> None:
    train, _ = write_competition(tmp_path, 2018)
    changed(train, lambda content: content["images"][0].update(file_name="train_val2018\\Aves\\2761\\t10.JPG"))
    assert read_inaturalist(tmp_path).splits["train"].names[0] == FILE_NAMES[2018].format("t10")
    (tmp_path / FILE_NAMES[2018].format("t12")).unlink()
    with pytest.raises(
        DataError, match=r"images\[2\]: there is no .*t12.jpg` below .*; the nearest name there is .*jpg`"
    ):
        read_inaturalist(tmp_path)
    assert len(read_inaturalist(tmp_path, keep_missing=True).splits["train"]) == 3


def test_the_taxonomy_of_2021_is_kept(tmp_path: Path) -> None:
    ranks = {
        "kingdom": "Animalia",
        "phylum": "Annelida",
        "class": "Clitellata",
        "order": "Haplotaxida",
        "family": "Lumbricidae",
        "genus": "Lumbricus",
    }
    train, _ = write_competition(tmp_path, 2021)
    changed(train, lambda content: content["categories"][0].update(ranks, specific_epithet="terrestris"))
    first, second = read_inaturalist(tmp_path).classes
    assert first.taxonomy == {**ranks, "species": "Lumbricus terrestris"}
    assert list(first.taxonomy) == [*ranks, "species"]
    assert second.taxonomy == {"kingdom": "Animalia"}


def test_what_images_carry_becomes_columns(tmp_path: Path) -> None:
    train, _ = write_competition(tmp_path, 2021)

    def carry(content: dict[str, Any]) -> None:
        content["licenses"] = [{"id": 3, "name": "CC BY-NC 4.0", "url": "https://..."}, {"id": 4, "url": "https://x"}]
        content["images"][0].update(license=3, rights_holder="Ann", date="2019-06-01", latitude=47.5, longitude=-8)
        content["images"][1].update(license=4, latitude=None, location_uncertainty=31)
        content["images"][2].update(license=99, rights_holder="")

    changed(train, carry)
    source = read_inaturalist(tmp_path)
    assert {column: values.tolist() for column, values in source.splits["train"].details.items()} == {
        "licence": ["CC BY-NC 4.0", "https://x", "99"],
        "rights_holder": ["Ann", None, None],
        "date": ["2019-06-01", None, None],
        "latitude": ["47.5", None, None],
        "longitude": ["-8", None, None],
        "location_uncertainty": [None, "31", None],
    }
    assert not source.splits["test"].details
