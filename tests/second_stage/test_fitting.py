"""What tau may be selected on."""

from pathlib import Path

import pytest

from ltrsys.classifiers.base import Selection
from ltrsys.classifiers.tau import TauConfig, TauNorm
from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import DataError, UsageError
from ltrsys.second_stage.config import BalanceConfig
from ltrsys.second_stage.fitting import evaluated_split, val_split
from tests.classifiers.runs import without_splits


def select(dataset: Dataset, select_on: str = "auto", *, val_is_test: bool = False) -> Selection:
    return TauNorm.selects_on(
        TauConfig(select_on=select_on), val_split(BalanceConfig(val_is_test=val_is_test), dataset)
    )


def test_with_val_and_test_tau_is_selected_on_val(tiny_shards: Path) -> None:
    dataset = Dataset.open(tiny_shards)
    assert evaluated_split(dataset) == "test"
    assert select(dataset) == Selection("val", "val", False)
    assert select(dataset, val_is_test=True) == Selection("val", "val", False)
    assert select(dataset, "train") == Selection("train", None, False)
    assert select(dataset, "learned") == Selection("learned", None, False)


@pytest.mark.parametrize(("missing", "reported"), [("test", "val"), ("val", "test")])
def test_the_reported_images_select_tau_only_by_name(
    tiny_shards: Path, tmp_path: Path, missing: str, reported: str
) -> None:
    dataset = Dataset.open(without_splits(tiny_shards, tmp_path / "some", missing))
    assert evaluated_split(dataset) == reported
    assert select(dataset) == Selection("train", None, False)
    with pytest.raises(UsageError, match=rf"no val split beside `{reported}`.* set balance\.val_is_test=true"):
        select(dataset, "val")
    assert select(dataset, val_is_test=True) == Selection("val", reported, True)


def test_without_val_and_test_there_is_nothing_to_report(tiny_shards: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(without_splits(tiny_shards, tmp_path / "some", "val", "test"))
    with pytest.raises(DataError, match="neither a test nor a val split"):
        evaluated_split(dataset)
