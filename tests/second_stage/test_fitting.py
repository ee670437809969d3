"""What tau may be selected on."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from ltrsys.classifiers.adjusted.tau import TauConfig, TauNorm
from ltrsys.classifiers.base import FitContext, Selection, ValSplit
from ltrsys.classifiers.retrained.cosine import CosineClassifier, CosineConfig
from ltrsys.classifiers.retrained.cosine_no_relu import CosineBeforeLastReLU
from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import UsageError
from ltrsys.features.bank import FILES, BankIdentity, FeatureBank
from ltrsys.metrics.config import SelectBy
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.config import BALANCE, BalanceConfig
from ltrsys.second_stage.fitting import (
    Fitter,
    evaluated_split,
    nothing_to_report_on,
    val_split,
)
from tests.classifiers.runs import without_splits

VAL = ValSplit("val")


class Bank:
    @staticmethod
    def fingerprint_of(kind: str) -> str:
        return "bank"


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
    assert evaluated_split(dataset) is None
    assert "neither a test nor a val split" in nothing_to_report_on(dataset)
    assert "--val 0.1 --test 0.1" in nothing_to_report_on(dataset)
    for val_is_test in (False, True):
        assert not val_split(BalanceConfig(val_is_test=val_is_test), dataset).is_reported
        assert select(dataset, val_is_test=val_is_test) == Selection("train", None, False)
        with pytest.raises(UsageError, match=r"has no val split\. Select on train or learned"):
            select(dataset, "val", val_is_test=val_is_test)


def fitter(path: Path, *, val: ValSplit = VAL, **balance: object) -> Fitter:
    return Fitter(RunFolder(path), Bank(), BALANCE.model()(**balance), val, 0, torch.device("cpu"), "linear")


@pytest.mark.parametrize("name", ["joint", "ncm", "crt", "lws"])
def test_what_selects_nothing_does_not_depend_on_what_is_selected_by(name: str, tmp_path: Path) -> None:
    one, other = (fitter(tmp_path, select_by=by).fingerprint(name) for by in get_args(SelectBy))
    assert one == other


def test_what_selects_on_val_is_fitted_anew_where_it_is_selected_by_something_else(tmp_path: Path) -> None:
    by_default = fitter(tmp_path).fingerprint("tau")
    assert by_default == fitter(tmp_path, select_by="mean_class_accuracy").fingerprint("tau")
    assert by_default != fitter(tmp_path, select_by="accuracy").fingerprint("tau")
    on_train = [fitter(tmp_path, val=ValSplit(None), select_by=by).fingerprint("tau") for by in get_args(SelectBy)]
    assert on_train[0] == on_train[1], "on train it is the mean over the classes, whatever is said for val"


def test_a_classifier_depends_on_the_kind_of_features_that_it_takes(tmp_path: Path, monkeypatch) -> None:
    bank = FeatureBank(tmp_path, BankIdentity("model", "dataset", {}), 2, ())
    fits = Fitter(RunFolder(tmp_path), bank, BALANCE.model()(), VAL, 0, torch.device("cpu"), "linear")
    before, other = fits.fingerprint("cosine_no_relu"), fits.fingerprint("cosine")
    monkeypatch.setattr(CosineBeforeLastReLU, "features", "last")
    assert fits.fingerprint("cosine_no_relu") != before
    assert fits.fingerprint("cosine") == other


def test_a_classifier_is_fitted_and_selected_on_the_features_that_it_takes(tmp_path: Path, monkeypatch) -> None:
    numbers, splits = np.random.default_rng(0), ("train", "val")
    for name in splits:
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "labels.npy", np.arange(6) % 2)
        for file in FILES.values():
            np.save(tmp_path / name / file, numbers.normal(size=(6, 4)).astype(np.float32))
    bank = FeatureBank(tmp_path, BankIdentity("model", "dataset", {}), 2, splits, splits)
    contexts: dict[str, FitContext] = {}
    plain = CosineClassifier.fit.__func__

    def fit(cls: type[CosineClassifier], context: FitContext, config: CosineConfig) -> CosineClassifier:
        contexts[cls.name] = context
        return plain(cls, context, config)

    monkeypatch.setattr(CosineClassifier, "fit", classmethod(fit))
    monkeypatch.setattr(CosineClassifier, "selects_on", classmethod(lambda cls, config, val: Selection("val", "val")))
    fits = Fitter(RunFolder(tmp_path), bank, BALANCE.model()(), VAL, 0, torch.device("cpu"), "linear")
    for classifier, kind in (("cosine", "last"), ("cosine_no_relu", "no_relu")):
        assert fits.fit(classifier).bank == bank.fingerprint_of(kind)
        for name, split in zip(splits, (contexts[classifier].train, contexts[classifier].val), strict=True):
            assert np.array_equal(split.features, np.load(tmp_path / name / FILES[kind]))
