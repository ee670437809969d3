"""The tables of an annotation file in the layout of COCO and of the iNaturalist competitions, each value checked."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypeVar

from pydantic import FailFast, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from typing_extensions import TypedDict  # which pydantic asks for before Python 3.12

from ltrsys.data.sources.files.text_files import quoted, read_utf8, refuse_other_encodings
from ltrsys.errors import DataError

Identity = Annotated[int, Field(ge=-(2**63), lt=2**63)] | str
"""An id: a whole number in the competitions' files, a text in others."""
Text = str | int | float | None
"""What is kept as a text, and may be written as a number."""

T = TypeVar("T")

_EXPECTED = {"file_name": "a text", "id": "a whole number or a text"}
_REQUIRED = {"images": "id, file_name", "annotations": "image_id, category_id"}
_EXPECTED |= dict.fromkeys(("image_id", "category_id"), _EXPECTED["id"])


class Image(TypedDict):
    """An entry of `images`."""

    id: Identity
    file_name: str
    license: NotRequired[Text]
    rights_holder: NotRequired[Text]
    date: NotRequired[Text]
    latitude: NotRequired[Text]
    longitude: NotRequired[Text]
    location_uncertainty: NotRequired[Text]


class Annotation(TypedDict):
    """An entry of `annotations`."""

    image_id: Identity
    category_id: Identity


# Not a class, since one of the ranks is called `class`.
Category = TypedDict(
    "Category",
    {
        "id": Identity,
        "name": NotRequired[Text],
        "supercategory": NotRequired[Text],
        "kingdom": NotRequired[Text],
        "phylum": NotRequired[Text],
        "class": NotRequired[Text],
        "order": NotRequired[Text],
        "family": NotRequired[Text],
        "genus": NotRequired[Text],
    },
)


class License(TypedDict):
    """An entry of `licenses`."""

    id: Identity
    name: NotRequired[Text]
    url: NotRequired[Text]


@dataclass(frozen=True)
class AnnotationFile:
    """What is put to use of a file."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]
    licenses: list[License]


_IMAGES = TypeAdapter(Annotated[list[Image], FailFast()])
_ANNOTATIONS = TypeAdapter(Annotated[list[Annotation], FailFast()])
_CATEGORIES = TypeAdapter(Annotated[list[Category], FailFast()])
_LICENSES = TypeAdapter(Annotated[list[License], FailFast()])
_CHUNK = 10_000
"""Entries that are checked at a time."""


def read_annotation_file(path: Path) -> AnnotationFile:
    """Read a file.

    Raises:
        DataError: Where it is missing, is no JSON, lacks a table, or has a value of another type than the format's,
            naming the entry.
    """
    data = read_utf8(path, "annotation file")
    try:
        content = from_json(data)
    except ValueError as error:
        refuse_other_encodings(path, data)
        raise DataError(f"{path}: not an annotation file of iNaturalist: {error}.") from None
    del data  # as large as what was read from it
    if not isinstance(content, dict):
        raise DataError(f"{path}: not an annotation file of iNaturalist: it is not a JSON object.")
    content["licenses"] = content.get("licenses") or []
    return AnnotationFile(
        _table(path, content, "images", _IMAGES),
        _table(path, content, "annotations", _ANNOTATIONS),
        _table(path, content, "categories", _CATEGORIES),
        _table(path, content, "licenses", _LICENSES),
    )


def _table(path: Path, content: dict[str, Any], name: str, adapter: TypeAdapter[list[T]]) -> list[T]:
    """Return a table with the keys that are put to use.

    The entries take the place of those that were read, a part at a time, so that there are never two of all.
    """
    table = content.get(name)
    if not isinstance(table, list) or not (table or name == "licenses"):
        raise DataError(
            f"{path}: not an annotation file of iNaturalist: `{name}` is missing or empty. "
            "The files with labels are train*.json and val*.json."
        )
    for first in range(0, len(table), _CHUNK):
        try:
            table[first : first + _CHUNK] = adapter.validate_python(table[first : first + _CHUNK], strict=True)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            number, *keys = problem["loc"]
            raise DataError(f"{path}: {name}[{first + int(number)}]: {_problem(name, keys, problem)}") from None
    return table


def _problem(table: str, keys: list[int | str], problem: Any) -> str:
    if not keys or problem["type"] == "missing":
        return f"expected an object with {_REQUIRED.get(table, 'id')}."
    # The keys end with the types of which the value could have been one.
    value = json.dumps(problem["input"], ensure_ascii=False)
    return f"`{keys[0]}` is {quoted(value)}; expected {_EXPECTED.get(str(keys[0]), 'a text, a number or null')}."


def text_of(value: Text) -> str | None:
    """Return a value as a text, or None where it is none or empty."""
    return None if value is None or value == "" else str(value)
