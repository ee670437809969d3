"""Whatever stands in somebody's files, a source is read or refused by one line: nothing unexpected comes out."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ltrsys.data.index.records import SplitName
from ltrsys.data.sources.folder import read_folder
from ltrsys.data.sources.inaturalist import read_inaturalist
from ltrsys.data.sources.lists import read_lists
from ltrsys.data.sources.source import Source
from ltrsys.errors import LtrsysError
from ltrsys.files import json_text
from tests.data.sources.pictures import encode, picture
from tests.data.sources.test_inaturalist import competition

FUZZ = settings(max_examples=150, deadline=None, derandomize=True)
IMAGES = ("acer/0.jpg", "acer/my picture.jpg", "quercus/0.JPG", "grün/1.jpg")
LIST = "\n".join(f"{name} {label}" for label, name in enumerate(IMAGES)).encode()


def json_values() -> st.SearchStrategy[Any]:
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(IMAGES)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "file_name"]), inner),
        max_leaves=5,
    )


def read_or_refused(read: Callable[[], Source]) -> None:
    """Read a source, or be told in one line why not; nothing else may be raised."""
    try:
        source = read()
    except LtrsysError as error:
        refusal = str(error)
    else:
        refusal = ""
        check(source)
    assert "\n" not in refusal


def check(source: Source) -> None:
    """Read what a build reads of a source, and write the names that it writes."""
    for items in source.splits.values():
        assert len(items.names) == len(items.labels)
        assert all(0 <= label < len(source.classes) for label in items.labels)
        for name in items.names:
            json_text(name).encode()  # as the list of what was rejected is
            with contextlib.suppress(OSError):
                source.read(name)
    for record in source.classes:
        record.model_dump_json()


@contextlib.contextmanager
def photographs(names: tuple[str, ...] = IMAGES) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        yield Path(folder)


@FUZZ
@given(data=st.binary(max_size=60), place=st.integers(0, len(LIST)), skipped=st.integers(0, 20), keep=st.booleans())
@example(data=b" 0\n\n", place=0, skipped=0, keep=True)
@example(data=b"\xef\xbb\xbf", place=0, skipped=0, keep=False)
@example(data=b"9" * 5000, place=len(LIST), skipped=0, keep=False)
@example(data=b"x" * 5000, place=0, skipped=0, keep=True)
@example(data=b"/x" * 3000, place=0, skipped=0, keep=True)
def test_any_list(data: bytes, place: int, skipped: int, keep: bool) -> None:
    with photographs() as root:
        for content in (data, LIST[:place] + data + LIST[place + skipped :]):
            (root / "list.txt").write_bytes(content)
            for num_classes in (None, 1000):
                lists: dict[SplitName, Path] = {"train": root / "list.txt"}
                read_or_refused(partial(read_lists, root, lists, num_classes=num_classes, keep_missing=keep))


@FUZZ
@given(paths=st.lists(st.text(max_size=12) | st.sampled_from(["..", "%2e%2e/x", "\\..\\x", "C:\\x", "//x", "a%00b"])))
@pytest.mark.long
def test_any_path_in_a_list(paths: list[str]) -> None:
    with photographs() as root:
        text = "".join(f"{path} {label}\n" for label, path in enumerate(paths))
        (root / "list.txt").write_text(text, encoding="utf-8", newline="")
        read_or_refused(lambda: read_lists(root, {"train": root / "list.txt"}, keep_missing=True))


def places(value: Any) -> list[list[str | int]]:
    """All places in a JSON value, from the outermost on."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [[]] + [[key, *place] for key, part in inside for place in places(part)]


def replaced(value: Any, place: list[str | int], by: Any) -> Any:
    if not place:
        return by
    changed = value.copy()
    changed[place[0]] = replaced(value[place[0]], place[1:], by)
    return changed


ANNOTATIONS = competition(2021, "t", [(10, 7), (11, 0), (12, 7)])
for entry, name in zip(ANNOTATIONS["images"], IMAGES, strict=False):
    entry |= {"file_name": name, "license": 1, "rights_holder": "Ann"}
ANNOTATIONS["licenses"] = [{"id": 1, "name": "CC BY"}]


def read_annotations(root: Path, train: bytes, **options: Any) -> None:
    (root / "train.json").write_bytes(train)
    (root / "val.json").write_text(json.dumps(competition(2021, "v", [(20, 0)])))
    read_or_refused(lambda: read_inaturalist(root, keep_missing=True, **options))


@FUZZ
@given(st.data())
@pytest.mark.long
def test_any_value_in_an_annotation_file(data: st.DataObject) -> None:
    content = ANNOTATIONS
    for _ in range(data.draw(st.integers(1, 3))):
        content = replaced(content, data.draw(st.sampled_from(places(content))), data.draw(json_values()))
    merge, ambiguous = data.draw(st.booleans()), data.draw(st.sampled_from(["refuse", "skip"]))
    with photographs() as root:
        read_annotations(root, json.dumps(content).encode(), merge_classes=merge, ambiguous=ambiguous)


@FUZZ
@given(data=st.binary(max_size=40), place=st.floats(0, 1), skipped=st.integers(0, 50))
@example(data=b"[" * 100_000, place=0.0, skipped=0)
@example(data=b"9" * 5000, place=0.5, skipped=0)
@example(data=b"\\ud800", place=0.1, skipped=0)
@pytest.mark.long
def test_any_bytes_in_an_annotation_file(data: bytes, place: float, skipped: int) -> None:
    text = json.dumps(ANNOTATIONS, ensure_ascii=False).encode()
    first = int(place * len(text))
    with photographs() as root:
        for content in (data, text[:first] + data + text[first + skipped :]):
            read_annotations(root, content)


def trees() -> st.SearchStrategy[Any]:
    """Folders as dicts from names to folders, bytes of a file, and texts: where a link leads."""
    some_names = st.sampled_from([b"train", b"val", b"oak", b"Oak ", b"0.jpg", b"1", b".x", b"x.heic", b"a.txt"])
    any_names = st.binary(min_size=1, max_size=8).filter(
        lambda raw: not set(raw) & set(b"/\0") and raw not in (b".", b"..")
    )
    files = st.binary(max_size=30) | st.sampled_from([encode(picture(), "PNG"), encode(picture(), "HEIF")])
    links = st.sampled_from([".", "..", "../..", "nowhere", "oak", "0.jpg", "../train", "/"])
    return st.recursive(
        files | links,
        lambda inner: st.dictionaries(some_names | any_names, inner, max_size=4),
        max_leaves=12,
    ).filter(lambda tree: isinstance(tree, dict))


def plant(folder: bytes, tree: Any) -> None:
    os.mkdir(folder)
    for name, part in tree.items():
        path = os.path.join(folder, name)
        if isinstance(part, dict):
            plant(path, part)
        elif isinstance(part, str):
            os.symlink(part, path)
        else:
            with open(path, "wb") as file:
                file.write(part)


@FUZZ
@given(trees())
@pytest.mark.long
def test_any_folder(tree: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plant(os.path.join(os.fsencode(folder), b"root"), tree)
        read_or_refused(lambda: read_folder(Path(folder, "root")))


def test_a_deep_folder(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):  # deeper than the longest path that the system takes
        os.mkdir("a" * 20, dir_fd=descriptor)
        descriptor, above = os.open("a" * 20, os.O_RDONLY, dir_fd=descriptor), descriptor
        os.close(above)
    os.close(descriptor)
    read_or_refused(lambda: read_folder(tmp_path))
