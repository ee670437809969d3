"""Scores of images that a classifier was not fitted on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ltrsys.classifiers.base import ValSplit
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.nearest.ncm import NCMConfig, NearestClassMean
from ltrsys.classifiers.retrained.crt import RetrainedClassifier
from ltrsys.errors import DataError
from ltrsys.features.bank import BankSplit
from ltrsys.features.folds import FOLDS, fold_of_row
from ltrsys.second_stage import held_out
from ltrsys.second_stage.fitting import Fitter
from ltrsys.second_stage.held_out import of_val, scored
from tests.calibration.banks import fitter_of
from tests.classifiers.conftest import CPU, LongTail, context, gaussian_split

SHORT = {"crt": {"epochs": 2, "lr": 0.1, "batch_size": 64}, "lws": {"epochs": 1, "lr": 0.1, "batch_size": 64}}


@pytest.fixture
def fitter(long_tail: LongTail, tmp_path: Path) -> Fitter:
    return fitter_of(long_tail, tmp_path, val=ValSplit(None), **SHORT)


def test_folds_are_of_one_size_and_each_class_is_in_every_training_part() -> None:
    counts = np.array([300, 57, 20, 6, 5, 4, 3, 2, 2, 1, 1, 0, 2])
    train = gaussian_split(counts, spread=0.6, seed=0)
    folds = fold_of_row(train)
    assert (folds[np.isin(train.labels, [9, 10])] == -1).all(), "the only image of a class is never held out"
    assert (folds >= 0).sum() == counts.sum() - 2
    sizes = np.bincount(folds[folds >= 0])
    assert sizes.max() - sizes.min() <= 1
    for fold in range(FOLDS):
        part = np.bincount(train.labels[folds != fold], minlength=len(counts))
        assert (part[counts > 0] > 0).all()
        held = np.bincount(train.labels[folds == fold], minlength=len(counts))
        assert (np.abs(held - counts / FOLDS) < 1).all()
    assert np.array_equal(fold_of_row(train), folds)


def test_an_image_is_scored_by_what_was_fitted_without_its_fold(fitter: Fitter, long_tail: LongTail) -> None:
    train = long_tail.train
    found = fitter.held_out(fitter.fit("ncm"))
    assert found.fitted_on == "train by 5-fold cross-validation"
    folds = fold_of_row(train)
    assert (folds[found.rows_N] >= 0).all()
    assert len(found.rows_N) == (folds >= 0).sum()
    by_class = np.bincount(train.labels[found.rows_N])
    assert by_class.max() - by_class.min() <= 1, "every class counts alike"
    assert torch.equal(found.labels_N, torch.from_numpy(train.labels[found.rows_N]))
    part = BankSplit(train.features[folds != 3], train.labels[folds != 3], train.num_classes)
    alone = NearestClassMean.fit(context(part), NCMConfig())
    own = np.flatnonzero(folds[found.rows_N] == 3)
    expected = alone.scores(torch.from_numpy(train.features[found.rows_N[own]]))
    torch.testing.assert_close(found.scores_NC[own], expected, rtol=0, atol=2e-6)


def test_what_is_expensive_is_fitted_once_more_and_scores_a_fifth(
    fitter: Fitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on: list[int] = []
    plain = RetrainedClassifier.fit.__func__

    def fit(cls, context, config):
        trained_on.append(len(context.train))
        return plain(cls, context, config)

    fitted = fitter.fit("crt")
    monkeypatch.setattr(RetrainedClassifier, "fit", classmethod(fit))
    found = fitter.held_out(fitted)
    images = len(fitter.bank.split("train"))
    assert found.fitted_on == "a fifth of train, held out"
    assert len(trained_on) == 1
    assert trained_on[0] + len(found.rows_N) == images
    assert len(found.rows_N) == pytest.approx(images / 5, abs=3)


def test_what_was_trained_with_the_backbone_says_that_it_is_too_sure(fitter: Fitter, long_tail: LongTail) -> None:
    joint = fitter.held_out(fitter.fit("joint"))
    assert joint.fitted_on == "train, on which it was trained: too sure"
    assert len(joint.rows_N) == len(long_tail.train)
    features = torch.from_numpy(long_tail.train.features[joint.rows_N])
    torch.testing.assert_close(joint.scores_NC, long_tail.joint.scores(features), rtol=1e-5, atol=1e-5)
    for name, how in (("tau", "train by 5-fold cross-validation"), ("lws", "a fifth of train, held out")):
        found = fitter.held_out(fitter.fit(name))
        assert found.fitted_on == f"{how}; its joint weights were trained on all of it: too sure"


def test_where_the_other_images_do_not_suffice_for_a_fit_it_says_so_and_takes_what_there_is(
    fitter: Fitter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fit(cls, context, config):
        raise DataError("too few")

    fitted = fitter.fit("ncm")
    monkeypatch.setattr(NearestClassMean, "fit", classmethod(fit))
    assert fitter.held_out(fitted).fitted_on == "train, on which it was trained: too sure"
    assert "ncm cannot be cross-validated: too few" in caplog.text


def test_classes_of_one_image_alone_leave_nothing_to_hold_out(tmp_path: Path, long_tail: LongTail) -> None:
    train = gaussian_split(np.ones(20, dtype=np.int64), spread=0.6, seed=0)
    fitter = fitter_of(replace(long_tail, train=train), tmp_path, val=ValSplit(None))
    found = fitter.held_out(fitter.fit("ncm"))
    assert (found.fitted_on, len(found.rows_N)) == ("train, on which it was trained: too sure", 20)


def test_of_too_many_images_a_sample_is_taken(long_tail: LongTail, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of_val(long_tail.joint, long_tail.val, CPU, "val")
    assert len(whole.rows_N) == len(long_tail.val)
    monkeypatch.setattr(held_out, "MOST_SCORES", 100 * long_tail.val.num_classes)
    some = of_val(long_tail.joint, long_tail.val, CPU, "val")
    assert len(some.rows_N) == 100
    assert (np.diff(some.rows_N) > 0).all()
    assert some.rows_N.max() > 300, "from all of the split"
    monkeypatch.setattr(held_out, "MOST_SCORES", 60 * long_tail.train.num_classes)
    balanced = held_out._balanced(long_tail.train, np.arange(len(long_tail.train)))
    assert len(balanced) == 60
    assert len(np.unique(long_tail.train.labels[balanced])) > 15, "of train, from most classes"
    torch.testing.assert_close(some.scores_NC, whole.scores_NC[some.rows_N], rtol=0, atol=1e-5)
    assert torch.equal(some.labels_N, whole.labels_N[some.rows_N])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_refused(long_tail: LongTail, bad: float) -> None:
    class Broken(Joint):
        def scores(self, features_ND: torch.Tensor) -> torch.Tensor:
            scores_NC = super().scores(features_ND)
            scores_NC[-1, 3] = bad
            return scores_NC

    with pytest.raises(DataError, match="joint: gives scores that are NaN or infinite"):
        list(scored(Broken(**vars(long_tail.joint)), long_tail.val, CPU))
