import pytest

from ltrsys.data.index.difference import difference
from ltrsys.data.index.records import ClassRecord, DatasetRecord, SplitRecord


def record(counts, *, val=None, ids=None, resize=None):
    """A dataset of classes by name, with so many training images each."""
    classes = [ClassRecord(name=name, source_id=(ids or {}).get(name)) for name in counts]

    def split(numbers):
        return SplitRecord(samples=sum(numbers), shards=[], strata=[], class_counts=numbers, columns={})

    splits = {"train": split(list(counts.values()))} | ({"val": split([val])} if val else {})
    return DatasetRecord(
        name="trees", source="folder", seed=0, resize=resize, bands_per_octave=4, classes=classes, splits=splits
    )


BEFORE = record({"ash": 10, "oak": 5, "yew": 1}, val=6)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (record({"ash": 10, "oak": 5, "yew": 1, "fir": 2}, val=6),
         "1 class added (fir); train had 16 images and has 18"),
        (record({"ash": 10, "yew": 1}, val=6),
         "1 class removed (oak); 1 class numbered anew (yew from 2 to 1); train had 16 images and has 11"),
        (record({"ash": 10, "oak tree": 5, "yew": 1}, val=6), "1 class renamed (oak to oak tree)"),
        (record({"ash": 12, "oak": 5, "yew": 1}),
         "train had 16 images and has 18; val had 6 images and has 0; "
         "1 class with another number of training images (ash 10 to 12)"),
        (record({"oak": 5, "ash": 10, "yew": 1}, val=6),
         "2 classes numbered anew (ash from 0 to 1, oak from 1 to 0)"),
        (record({"ash": 9, "oak": 6, "yew": 1}, val=6),
         "2 classes with another number of training images (ash 10 to 9, oak 5 to 6)"),
        (record({"ash": 10, "oak": 5, "yew": 1}, val=6, resize=288), "resize was None and is 288"),
        (record({"ash": 10, "oak": 5, "yew": 1}, val=6),
         "as many images of each class, but other images, or in another order"),
    ],
)  # fmt: skip
def test_what_differs_is_said(after, said):
    assert str(difference(BEFORE, after)) == said


def test_a_new_name_in_the_same_place_leaves_the_classes_as_they_are():
    assert not difference(BEFORE, record({"ash": 10, "oak tree": 5, "yew": 1}, val=6)).classes
    ids = {"ash": "1", "oak": "2", "fir": "9", "yew": "3"}
    one, other = (record(counts, ids=ids) for counts in ({"ash": 1, "oak": 1}, {"ash": 1, "fir": 1}))
    assert difference(one, other).classes == ["1 class added (fir)", "1 class removed (oak)"]


def test_only_the_first_of_many_classes_are_named():
    before, after = (record({f"tree {number}": count for number in range(1500)}) for count in (1, 2))
    assert str(difference(before, after)).endswith(
        "1,500 classes with another number of training images (tree 0 1 to 2, tree 1 1 to 2, tree 2 1 to 2 and 1,497 "
        "more)"
    )
