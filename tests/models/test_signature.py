"""What a model takes and what its outputs mean, beside its weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ltrsys.data.config import DataConfig, Interpolation
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import ClassRecord
from ltrsys.errors import DataError
from ltrsys.models.signature import DIGEST_KEY, KEY, Preprocessing, Signature, signature_in
from ltrsys.models.stored.weights import save_tensors
from tests.conftest import TINY_COUNTS

PREPROCESSING = Preprocessing(reduced_to=None, resize=16, image_size=12, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
CLASSES = [
    ClassRecord(name="Quercus robur", source_id="7", taxonomy={"genus": "Quercus", "species": "Quercus robur"}),
    ClassRecord(name="Iris </script>", source_id="3"),
]
SIGNATURE = Signature(classes=CLASSES, train_counts=[5, 0], preprocessing=PREPROCESSING)


def saved(path: Path, metadata: dict[str, str]) -> Path:
    save_tensors({"weight": torch.zeros(2, 3)}, path, metadata)
    return path


def test_it_comes_back_from_a_file_of_weights(tmp_path: Path) -> None:
    assert signature_in(saved(tmp_path / "a.safetensors", SIGNATURE.metadata() | {"other": "kept"})) == SIGNATURE


def test_a_file_of_an_older_version_has_none(tmp_path: Path) -> None:
    assert signature_in(saved(tmp_path / "a.safetensors", {"other": "kept"})) is None


def test_one_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    metadata = SIGNATURE.metadata()
    metadata[KEY] = metadata[KEY].replace("Quercus robur", "Quercus rubra")
    path = saved(tmp_path / "a.safetensors", metadata)
    with pytest.raises(DataError, match=r"a\.safetensors: its names .* SHA-256 differs\). Copy the file again"):
        signature_in(path)


@pytest.mark.parametrize("content", ["{", "[]", SIGNATURE.model_dump_json().replace("[5,0]", "[5]")])
def test_one_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = saved(tmp_path / "a.safetensors", {KEY: content, DIGEST_KEY: ""})
    with pytest.raises(DataError, match=r"cannot be read \(.*\): the file is damaged, or of a later version"):
        signature_in(path)


def test_it_is_made_of_the_shards_and_the_section_data(tiny_shards: Path) -> None:
    record = Dataset.open(tiny_shards).record
    signature = Signature.of(record, DataConfig(shards=tiny_shards, resize=14, image_size=12))
    assert signature.classes == record.classes
    assert signature.train_counts == TINY_COUNTS
    assert signature.preprocessing.model_dump() == {
        "reduced_to": None,
        "resize": 14,
        "image_size": 12,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": CLASSES[::-1]}, "2 classes numbered anew (Quercus robur from 0 to 1, Iris </script> from 1 to 0)"),
        (
            {"classes": [CLASSES[0], CLASSES[1].model_copy(update={"name": "Iris"})]},
            None,
        ),
        (
            {"classes": [CLASSES[0], ClassRecord(name="Iris")]},
            "1 class added (Iris); 1 class removed (Iris </script>)",
        ),
        (
            {"preprocessing": PREPROCESSING.model_copy(update={"image_size": 14})},
            "image_size is 12 here and 14 there",
        ),
        (
            {"preprocessing": PREPROCESSING.model_copy(update={"interpolation": "bicubic"})},
            "interpolation is bilinear here and bicubic there",
        ),
        ({"train_counts": [9, 9]}, None),
        ({}, None),
    ],
)
def test_what_differs_is_named(change: dict[str, Any], said: str | None) -> None:
    assert SIGNATURE.difference(SIGNATURE.model_copy(update=change)) == said


def test_classes_that_no_source_tells_apart_are_others_if_they_are_called_otherwise() -> None:
    here, there = (
        SIGNATURE.model_copy(update={"classes": [ClassRecord(name=name) for name in names]})
        for names in (["oak", "elm"], ["fox", "owl"])
    )
    assert here.difference(there) == "a class is called oak here and fox there"


def test_the_digest_depends_on_all_of_it() -> None:
    others = [
        SIGNATURE.model_copy(update={"classes": CLASSES[::-1]}),
        SIGNATURE.model_copy(update={"train_counts": [5, 1]}),
        SIGNATURE.model_copy(update={"preprocessing": PREPROCESSING.model_copy(update={"mean": (0.5, 0.5, 0.4)})}),
    ]
    assert len({one.sha256 for one in [SIGNATURE, *others]}) == 4


def test_one_from_before_the_interpolation_could_be_chosen_is_as_it_was() -> None:
    assert "interpolation" not in SIGNATURE.model_dump_json()
    assert SIGNATURE.sha256 == "67af86e6d6f6b5e09a0484df25ff32f45be215bebd8cfbc693cb73a3bd653d54"


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_interpolation_comes_back_from_a_file(tmp_path: Path, interpolation: Interpolation) -> None:
    preprocessing = PREPROCESSING.model_copy(update={"interpolation": interpolation})
    signature = SIGNATURE.model_copy(update={"preprocessing": preprocessing})
    found = signature_in(saved(tmp_path / "a.safetensors", signature.metadata()))
    assert found is not None
    assert found.preprocessing.interpolation == interpolation
