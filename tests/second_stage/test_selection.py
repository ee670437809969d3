"""Settings that are chosen among those of a grid, on what is not reported."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ltrsys.classifiers.base import CLASSIFIERS, ValSplit, predicted
from ltrsys.features.bank import BankSplit
from ltrsys.features.folds import FOLDS, fold_of_row
from ltrsys.metrics.accuracy import score
from ltrsys.second_stage.config import BALANCE
from ltrsys.second_stage.fitting import Fitter
from ltrsys.second_stage.grids import combinations, described, with_values
from ltrsys.second_stage.store import load_fitted
from tests.calibration.banks import fitter_of
from tests.classifiers.conftest import CPU, LongTail, context

VAL, NO_VAL = ValSplit("val"), ValSplit(None)
KNN = {"knn": {"k": [1, 3, 9, 27], "gamma": [0.0, 0.5, 1.0]}}


def fitter(data: LongTail, folder: Path, val: ValSplit = VAL, **balance: Any) -> Fitter:
    return fitter_of(data, folder, val=val, **({"select": True} | balance))


def predictions(data: LongTail, name: str, train: BankSplit, judged: BankSplit, values: dict[str, Any]) -> np.ndarray:
    method = CLASSIFIERS.get(name)
    config = with_values(method.Config(), values)
    return predicted(partial(method.fit, context(train, joint=data.joint), config), judged, CPU)


@pytest.mark.parametrize("name", ["knn", "lda", "ncm"])
def test_the_best_on_val_is_chosen_and_of_equals_the_first(name: str, long_tail: LongTail, tmp_path: Path) -> None:
    fits = fitter(long_tail, tmp_path, grids=KNN)
    grid, val = fits.config.grid_of(name), long_tail.val
    scores = [
        score(val.labels, predictions(long_tail, name, long_tail.train, val, values), 20, "mean_class_accuracy")
        for values in combinations(grid)
    ]
    assert len(set(scores)) > 1
    fitted = fits.fitted(name)
    assert fitted.choice.values == combinations(grid)[int(np.argmax(scores))]
    assert (fitted.choice.on, fitted.selected_on) == ("val", "val")
    expected = predictions(long_tail, name, long_tail.train, long_tail.test, fitted.choice.values)
    np.testing.assert_array_equal(predicted(lambda: fitted.classifier, long_tail.test, CPU), expected)


def test_without_val_it_is_chosen_by_cross_validation_on_train(long_tail: LongTail, tmp_path: Path) -> None:
    fits = fitter(long_tail, tmp_path, NO_VAL, grids=KNN)
    train, folds = long_tail.train, fold_of_row(long_tail.train)
    scores = []
    for values in combinations(KNN["knn"]):
        found = np.full(len(train), -1)
        for fold in range(FOLDS):
            others, own = (
                BankSplit(train.features[rows], train.labels[rows], 20) for rows in (folds != fold, folds == fold)
            )
            found[folds == fold] = predictions(long_tail, "knn", others, own, values)
        judged = folds >= 0
        scores.append(score(train.labels[judged], found[judged], 20, "mean_class_accuracy"))
    fitted = fits.fitted("knn")
    assert fitted.choice.values == combinations(KNN["knn"])[int(np.argmax(scores))]
    assert (fitted.choice.on, fitted.selected_on) == ("train", "train")


def test_the_reported_images_choose_only_where_that_is_asked_for(long_tail: LongTail, tmp_path: Path) -> None:
    """The split that is reported serves as val only by `val_is_test`, which the table then says."""
    fitted = fitter(long_tail, tmp_path, ValSplit("test", is_reported=True), grids=KNN).fitted("knn")
    assert fitted.choice.val_is_test
    said = described("knn", fitted.params, fitted.selected_on)
    assert said.endswith("k, gamma chosen on val, which is the reported split")


def test_what_was_chosen_is_kept_told_and_taken_wherever_it_is_fitted_again(
    long_tail: LongTail, tmp_path: Path
) -> None:
    grid = {"crt": {"epochs": [2], "lr": [0.1, 1e-6], "weight_decay": [5e-4]}}
    fits = fitter(long_tail, tmp_path, grids=grid)
    fitted = fits.fitted("crt")
    assert fitted.choice.values == {"epochs": 2, "lr": 0.1, "weight_decay": 5e-4}
    assert load_fitted(fits.run.classifiers, "crt", CPU).choice == fitted.choice
    assert fitted.params == {"bias": True, "chosen": fitted.choice.values, "chosen_on": "val"}
    said = described("crt", fitted.params, fitted.selected_on)
    assert said == "epochs = 2, lr = 0.1, weight_decay = 0.0005 chosen on val"
    refitted, _ = fits._refit(fitted, long_tail.train)
    assert np.array_equal(refitted.weight_CD.numpy(), fitted.classifier.weight_CD.numpy())


def test_settings_that_cannot_be_fitted_are_left_out(long_tail: LongTail, tmp_path: Path, caplog) -> None:
    fits = fitter(long_tail, tmp_path, grids={"crt": {"epochs": [2], "batch_size": [64], "lr": [1e30, 0.1]}})
    assert fits.fitted("crt").choice.values["lr"] == 0.1
    assert "left out of the choice: crt: the training of this classifier diverged" in caplog.text


def test_nothing_is_chosen_unless_it_is_asked_for_or_the_classifier_always_does(
    long_tail: LongTail, tmp_path: Path
) -> None:
    plain = fitter(long_tail, tmp_path, select=False)
    chosen = fitter(long_tail, tmp_path)
    for name in CLASSIFIERS.names():
        method = CLASSIFIERS.get(name)
        assert bool(plain.config.grid_of(name)) == method.always_selects
        assert (plain.fingerprint(name) != chosen.fingerprint(name)) == bool(
            (method.grid and not method.always_selects) or method.members(plain.config.of(name))
        )
    assert plain.config.grid_of("weight_balancing")
    assert not fitter(long_tail, tmp_path, grids={"weight_balancing": {}}).config.grid_of("weight_balancing")
    assert plain.fitted("ncm").choice is None


def test_it_is_chosen_anew_where_what_it_is_chosen_by_changes(long_tail: LongTail, tmp_path: Path) -> None:
    before = fitter(long_tail, tmp_path).fingerprint("knn")
    others = [
        fitter(long_tail, tmp_path, grids=KNN),
        fitter(long_tail, tmp_path, NO_VAL),
        fitter(long_tail, tmp_path, ValSplit("val", is_reported=True)),
        fitter(long_tail, tmp_path, select_by="accuracy"),
        fitter(long_tail, tmp_path, select=False),
    ]
    assert len({before, *(one.fingerprint("knn") for one in others)}) == 6


@pytest.mark.parametrize(
    ("grids", "reason"),
    [
        ({"knnn": {}}, r"grids: `knnn`: unknown classifier\. Did you mean knn\?"),
        ({"knn": {"neighbours": [3]}}, r"grids\.knn\.neighbours: Extra inputs are not permitted"),
        ({"knn": {"k": [3, 0]}}, r"grids\.knn\.k: Input should be greater than or equal to 1"),
        ({"knn": {"k": []}}, r"grids\.knn\.k: give it a value at least"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused_by_its_key(grids: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        BALANCE.model()(grids=grids)


def test_every_grid_fits_its_classifier() -> None:
    for method in CLASSIFIERS:
        assert all(with_values(method.Config(), values) for values in combinations(method.grid))
