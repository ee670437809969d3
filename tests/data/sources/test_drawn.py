"""The two sources that need no download: digits and glyphs."""

import io

import numpy as np
import pytest
from PIL import Image

from ltrsys.data.sources.digits import TEST_PER_CLASS, VAL_PER_CLASS, read_digits
from ltrsys.data.sources.glyphs import MIN_FACES, read_glyphs
from ltrsys.data.sources.source import Source
from ltrsys.errors import UsageError


def faces(source: Source, split: str) -> dict[int, set[str]]:
    items = source.splits[split]  # type: ignore[index]
    found: dict[int, set[str]] = {}
    for name, label in zip(items.names, items.labels.tolist(), strict=True):
        found.setdefault(label, set()).add(name.split("/")[1])
    return found


def test_digits_are_dealt_once_and_evenly() -> None:
    source = read_digits(seed=0)
    names = [name for items in source.splits.values() for name in items.names]
    assert len(names) == len(set(names)) == 1797
    assert np.bincount(source.splits["val"].labels).tolist() == [VAL_PER_CLASS] * 10
    assert np.bincount(source.splits["test"].labels).tolist() == [TEST_PER_CLASS] * 10
    assert min(np.bincount(source.splits["train"].labels)) >= 120


def test_some_digits_are_the_same_images_as_of_all() -> None:
    all_ten, three = read_digits(seed=0), read_digits(seed=0, num_classes=3)
    assert [record.name for record in three.classes] == ["0", "1", "2"]
    for split, items in three.splits.items():
        other = all_ten.splits[split]
        assert items.names == [name for name, label in zip(other.names, other.labels, strict=True) if label < 3]
        assert np.unique(items.labels).tolist() == [0, 1, 2]


def test_digits_look_like_their_label() -> None:
    source = read_digits(seed=0)
    items = source.splits["train"]
    zero = [source.read(items.names[place]) for place in np.flatnonzero(items.labels == 0)[:20]]
    mean = np.mean([np.asarray(Image.open(io.BytesIO(data)), dtype=float) for data in zero], axis=0)
    assert mean.shape == (32, 32)
    assert mean[12:20, 14:18].mean() < 0.2 * mean[12:20, 6:12].mean(), "a zero is hollow"


def test_no_face_of_a_letter_is_shared_between_splits() -> None:
    source = read_glyphs(num_classes=60, seed=0, train_per_class=40)
    by_split = {split: faces(source, split) for split in source.splits}
    for label in range(60):
        train, val, test = (by_split[split][label] for split in ("train", "val", "test"))
        assert not train & test
        assert not train & val
        assert not val & test
        assert len(train) + len(val) + len(test) >= MIN_FACES


def test_val_and_test_are_balanced_and_train_has_what_was_asked() -> None:
    source = read_glyphs(num_classes=7, seed=0, train_per_class=33)
    assert np.bincount(source.splits["train"].labels).tolist() == [33] * 7
    assert np.bincount(source.splits["val"].labels).tolist() == [10] * 7
    assert np.bincount(source.splits["test"].labels).tolist() == [20] * 7


def test_images_of_a_class_are_all_different_and_drawn_again_alike() -> None:
    source = read_glyphs(num_classes=2, seed=0, train_per_class=400)
    names = [name for name in source.splits["train"].names if name.startswith(source.splits["train"].names[0][:6])]
    drawn = [source.read(name) for name in names]
    assert len(set(drawn)) == len(names) == 400
    assert [source.read(name) for name in names[::50]] == drawn[::50]
    other = read_glyphs(num_classes=2, seed=1)
    assert other.read(names[0]) != drawn[0]
    assert Image.open(io.BytesIO(drawn[0])).size == (32, 32)


def test_more_classes_add_letters_and_none_looks_like_another() -> None:
    few, many = read_glyphs(num_classes=50, seed=0), read_glyphs(num_classes=400, seed=3)
    letters = [record.name for record in many.classes]
    assert {record.name for record in few.classes} <= set(letters)
    assert len(set(letters)) == 400
    for alike in ("AΑА", "OΟО", "oοо"):
        assert len(set(alike) & set(letters)) <= 1


def test_too_many_letters_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--num-classes 5000: matplotlib's fonts have 1\d\d\d letters"):
        read_glyphs(num_classes=5000, seed=0)
