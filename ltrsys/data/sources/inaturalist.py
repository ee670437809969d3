"""The JSON files of the iNaturalist competitions of 2017, 2018, 2019 and 2021.

Each has `images` (id, file_name), `annotations` (image_id, category_id) and `categories` (id, name, and up to
the whole taxonomy). 2018 and 2019 came with obfuscated names; the later unobfuscated files fit as well.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from ltrsys.data.index.records import ClassRecord, SplitName
from ltrsys.data.sources.source import (
    SOURCES,
    FileReader,
    Items,
    Source,
    SourceKind,
    SourceOptions,
    inside,
    require_folder,
)
from ltrsys.errors import DataError
from ltrsys.files import read_json

log = logging.getLogger("ltrsys")

Table = list[dict[str, Any]]


def read_inaturalist(root: Path, annotations: dict[SplitName, Path] | None = None) -> Source:
    """Read the annotation file of each split.

    A class is a category, in the order of `categories` of the training file; its `source_id` is the category's id.
    Without `annotations`, the one `train*.json` below `root` is the training split and the one `val*.json`
    the test split: the competition's own test set has no labels, and the paper reports on val.

    Raises:
        DataError: Where a file is missing, lacks a table, or one of its tables does not fit the others.
    """
    require_folder(root, "the competition's JSON files and images")
    annotations = annotations or _find(root)
    tables = {split: _Tables(path) for split, path in annotations.items()}
    categories = tables["train"].categories
    classes = [_class_record(category) for category in categories]
    class_of_category = {category["id"]: label for label, category in enumerate(categories)}
    if len(class_of_category) != len(categories):
        raise DataError(f"{annotations['train']}: two entries of `categories` have the same id.")
    splits = {split: table.items(class_of_category) for split, table in tables.items()}
    reader = FileReader(root)
    return Source("inaturalist", root.resolve().name, classes, splits, reader, reader.version)


class _Tables:
    """One annotation file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        log.info("Reading %s ...", path)
        content = read_json(path, "annotation file of iNaturalist")
        if not isinstance(content, dict):
            raise DataError(f"{path}: not an annotation file of iNaturalist: it is not a JSON object.")
        self.images = self._table(content, "images", ("id", "file_name"))
        self.annotations = self._table(content, "annotations", ("image_id", "category_id"))
        self.categories = self._table(content, "categories", ("id",))

    def items(self, class_of_category: dict[int, int]) -> Items:
        """Return the images in the file's order with their class ids."""
        labels: dict[int, int] = {}
        for number, annotation in enumerate(self.annotations):
            image, category = annotation["image_id"], annotation["category_id"]
            if category not in class_of_category:
                raise DataError(
                    f"{self.path}: annotations[{number}]: category_id {category} is not among `categories` of the "
                    "training file. Both files must come from the same competition."
                )
            if labels.setdefault(image, class_of_category[category]) != class_of_category[category]:
                raise DataError(f"{self.path}: annotations[{number}]: image {image} already has another category.")
        names: list[str] = []
        ids: list[int] = []
        seen: set[str] = set()
        for number, image in enumerate(self.images):
            where = f"{self.path}: images[{number}]"
            if image["id"] not in labels:
                raise DataError(
                    f"{where}: image {image['id']} has no annotation; the competition's test file has none."
                )
            name = inside(image["file_name"], where)
            if name in seen:
                raise DataError(f"{where}: `{name}` is listed a second time. Remove one of the entries.")
            seen.add(name)
            names.append(name)
            ids.append(labels[image["id"]])
        return Items(names, np.array(ids, dtype=np.int32))

    def _table(self, content: dict[str, Any], name: str, keys: tuple[str, ...]) -> Table:
        table = content.get(name)
        if not isinstance(table, list) or not table:
            raise DataError(
                f"{self.path}: not an annotation file of iNaturalist: `{name}` is missing or empty. "
                "The files with labels are train*.json and val*.json."
            )
        for number, entry in enumerate(table):
            if not isinstance(entry, dict) or any(key not in entry for key in keys):
                raise DataError(f"{self.path}: {name}[{number}]: expected an object with {', '.join(keys)}.")
        return table


def _class_record(category: dict[str, Any]) -> ClassRecord:
    name = str(category.get("name") or f"category {category['id']}")
    supercategory = category.get("supercategory")
    return ClassRecord(
        name=name,
        supercategory=None if supercategory is None else str(supercategory),
        source_id=str(category["id"]),
    )


def _find(root: Path) -> dict[SplitName, Path]:
    return {"train": _the_one(root, "train"), "test": _the_one(root, "val")}


def _the_one(root: Path, stem: str) -> Path:
    found = sorted(root.glob(f"{stem}*.json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{root}: expected one {stem}*.json here, found {names}. Name it: --train FILE --test FILE.")
    return found[0]


@SOURCES.register
class INaturalist(SourceKind):
    """The iNaturalist competitions."""

    name = "inaturalist"
    summary = "the JSON files of the iNaturalist competitions of 2017, 2018, 2019 and 2021"
    order = 0

    @classmethod
    def read(cls, options: SourceOptions) -> Source:
        """Read the annotations that were given, or those that stand below the root."""
        options.refuse_num_classes(cls.name)
        root = options.required_root(cls.name)
        options.require_train()
        return read_inaturalist(root, dict(options.files))
