"""The JSON files of the iNaturalist competitions of 2017, 2018, 2019 and 2021, and others in the layout of COCO.

Each has `images` (id, file_name), `annotations` (image_id, category_id) and `categories` (id, name, and up to
the whole taxonomy). 2018 and 2019 came with obfuscated names; the later unobfuscated files fit as well.
"""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import SplitName
from ltrsys.data.sources.files.annotation_file import AnnotationFile, read_annotation_file, text_of
from ltrsys.data.sources.files.categories import Categories
from ltrsys.data.sources.files.identities import Identities
from ltrsys.data.sources.files.listing import Listing
from ltrsys.data.sources.files.text_files import quoted
from ltrsys.data.sources.source import (
    SOURCES,
    FileReader,
    Items,
    Source,
    SourceKind,
    SourceOptions,
    require_folder,
)
from ltrsys.errors import DataError

log = logging.getLogger("ltrsys")

_COLUMNS = {
    "license": "licence",
    "rights_holder": "rights_holder",
    "date": "date",
    "latitude": "latitude",
    "longitude": "longitude",
    "location_uncertainty": "location_uncertainty",
}
"""The column of `Items.details` for what an entry of `images` may carry."""


def read_inaturalist(
    root: Path,
    annotations: dict[SplitName, Path] | None = None,
    *,
    merge_classes: bool = False,
    ambiguous: Literal["refuse", "skip"] = "refuse",
    keep_missing: bool = False,
) -> Source:
    """Read the annotation file of each split.

    A class is a category, in the order of `categories` of the training file; its `source_id` is the category's id.
    Without `annotations`, the one `train*.json` below `root` is the training split and the one `val*.json`
    the test split: the competition's own test set has no labels, and the paper reports on val.

    Args:
        root: The folder that file names are relative to.
        annotations: The file of each split.
        merge_classes: Whether categories of one name become one class.
        ambiguous: Whether an image with annotations of several classes is an error or left out.
        keep_missing: Whether an image that is not there stays in the list, for the build to reject.

    Raises:
        DataError: Where a file is missing, lacks a table, has a value of a wrong type, or one of its tables does not
            fit the others; and for an image that is not there or is listed twice.
    """
    require_folder(root, "the competition's JSON files and images")
    annotations = annotations or _find(root)
    categories: Categories | None = None
    listing = Listing(root, keep_missing=keep_missing)
    found: dict[SplitName, Items] = {}
    for split in sorted(annotations, key=lambda split: split != "train"):  # which has the classes of all
        path = annotations[split]
        log.info("Reading %s ...", path)
        content = read_annotation_file(path)
        if categories is None:
            categories = Categories(path, content.categories, merge=merge_classes)
        else:
            categories.compare(path, content.categories)
        found[split] = _items(path, content, categories, listing, ambiguous)
    assert categories is not None
    splits = {split: found[split] for split in annotations}
    reader = FileReader(root)
    return Source("inaturalist", root.resolve().name, categories.classes, splits, reader, reader.version)


def _items(
    path: Path,
    content: AnnotationFile,
    categories: Categories,
    listing: Listing,
    ambiguous: Literal["refuse", "skip"],
) -> Items:
    """Return the images in the file's order with their class ids and what else is known of them."""
    images = content.images
    labels, is_ambiguous = _labels(path, content, categories)
    if num_ambiguous := int(is_ambiguous.sum()):
        first = int(is_ambiguous.argmax())
        said = (
            f"{path}: {num_ambiguous} of {len(images)} images have annotations of several classes, the first of them "
            f"images[{first}], {quoted(images[first]['file_name'])}"
        )
        if ambiguous == "refuse":
            raise DataError(f"{said}. Correct their annotations, or leave these images out with --ambiguous skip.")
        if num_ambiguous == len(images):
            raise DataError(f"{said}: no image is left.")
        log.warning("%s. They are left out.", said)
    kept = np.flatnonzero(~is_ambiguous)
    names = listing.names(
        [images[place]["file_name"] for place in kept], lambda number: f"{path}: images[{kept[number]}]"
    )
    return Items(names, labels[kept], _details(content, kept))


def _labels(path: Path, content: AnnotationFile, categories: Categories) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the class of each image, int32 [images], and whether its annotations name several, bool [images].

    Raises:
        DataError: For a category that is none of the training file's, and an image without an annotation.
    """
    images = content.images

    def where(place: int) -> str:
        return f"{path}: images[{place}] ({quoted(images[place]['file_name'])})"

    identities = Identities([image["id"] for image in images], where)
    labels = np.full(len(images), -1, dtype=np.int32)
    is_ambiguous = np.zeros(len(images), dtype=np.bool_)
    for number, annotation in enumerate(content.annotations):
        label = categories.label(annotation["category_id"])
        if label is None:
            raise DataError(
                f"{path}: annotations[{number}]: category_id {annotation['category_id']!r} is not among `categories` "
                "of the training file. Both files must come from the same competition."
            )
        place = identities.place(annotation["image_id"])
        if place is not None:  # a list of images may have been shortened, and not that of annotations
            is_ambiguous[place] |= labels[place] not in (-1, label)
            labels[place] = label
    if (labels < 0).any():
        first = int((labels < 0).argmax())
        raise DataError(
            f"{path}: images[{first}]: image {images[first]['id']!r} has no annotation"
            f"{_mixed_kinds(identities, content)}. Remove it from `images`; the competition's test file has none."
        )
    return labels, is_ambiguous


def _mixed_kinds(identities: Identities, content: AnnotationFile) -> str:
    kinds = {type(annotation["image_id"]) for annotation in content.annotations} | identities.kinds
    return " (some ids are numbers and others texts, such as 7 and '007')" if len(kinds) > 1 else ""


def _details(content: AnnotationFile, kept: NDArray[np.int64]) -> dict[str, NDArray[np.object_]]:
    """Return the columns that some image has a value in, [kept] each."""
    licences: dict[str | None, str | None] = {
        text_of(licence["id"]): text_of(licence.get("name")) or text_of(licence.get("url"))
        for licence in content.licenses
    }
    images = content.images
    details = {}
    for key, column in _COLUMNS.items():
        values = np.array([text_of(images[place].get(key)) for place in kept] + [None], dtype=np.object_)[:-1]
        if key == "license":
            values = np.array([licences.get(value) or value for value in values] + [None], dtype=np.object_)[:-1]
        if any(value is not None for value in values):
            details[column] = values
    return details


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
        return read_inaturalist(
            root,
            dict(options.files),
            merge_classes=options.merge_classes,
            ambiguous=options.ambiguous,
            keep_missing=options.keep_missing,
        )
