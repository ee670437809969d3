"""An ensemble is fitted with its members, and depends on all that they depend on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ltrsys.classifiers.base import ValSplit
from ltrsys.errors import UsageError
from ltrsys.models.config import ModelConfig
from ltrsys.second_stage.applying import check_applicable, with_members
from ltrsys.second_stage.fitting import Fitter
from ltrsys.second_stage.store import classifier_path
from ltrsys.second_stage.temperature import fit_temperature
from tests.calibration.banks import fitter_of
from tests.classifiers.accuracies import few_and_all
from tests.classifiers.conftest import LongTail

VAL = ValSplit("val")
SHORT = {"epochs": 4, "lr": 0.1, "batch_size": 64}


def fitter(data: LongTail, folder: Path, val: ValSplit = VAL, **balance: object) -> Fitter:
    members = {"classifiers": ["ncm", "crt"]}
    return fitter_of(data, folder, val=val, **({"ensemble": members, "crt": SHORT} | balance))


def test_members_that_are_not_fitted_are_fitted_and_calibrated_on_val(long_tail: LongTail, tmp_path: Path) -> None:
    fits = fitter(long_tail, tmp_path)
    fits.fitted("ncm")
    ncm = classifier_path(fits.run.classifiers, "ncm").stat().st_mtime_ns
    both = fits.fitted("ensemble").classifier
    assert classifier_path(fits.run.classifiers, "ncm").stat().st_mtime_ns == ncm, "what is fitted is taken as it is"
    features, labels = torch.from_numpy(long_tail.val.features), torch.from_numpy(long_tail.val.labels)
    for name in ("ncm", "crt"):
        alone = fits.current(name)
        assert alone is not None, "members are kept"
        expected = fit_temperature(alone.classifier.scores(features), labels)
        assert both.parts[name].temperature == pytest.approx(expected)
    alone = [few_and_all(fits.fitted(name).classifier, long_tail)[1] for name in ("ncm", "crt")]
    assert few_and_all(both, long_tail)[1] >= min(alone)


def test_it_is_fitted_anew_where_a_member_is(long_tail: LongTail, tmp_path: Path) -> None:
    before = fitter(long_tail, tmp_path).fingerprint("ensemble")
    assert fitter(long_tail, tmp_path).fingerprint("ensemble") == before
    others = [
        fitter(long_tail, tmp_path, crt=SHORT | {"lr": 0.2}),
        fitter(long_tail, tmp_path, ncm={"feature": "plain"}),
        fitter(long_tail, tmp_path, ensemble={"classifiers": ["crt", "ncm"]}),
        fitter(long_tail, tmp_path, ValSplit(None)),
        fitter(long_tail, tmp_path, ValSplit("val", is_reported=True)),
        fitter(long_tail, tmp_path, identity="another"),
    ]
    assert len({before, *(one.fingerprint("ensemble") for one in others)}) == 7
    assert fitter(long_tail, tmp_path, lda={"shrinkage": 0.5}).fingerprint("ensemble") == before, "lda is no member"


def test_without_val_it_is_held_out_with_its_members(long_tail: LongTail, tmp_path: Path, monkeypatch) -> None:
    fits = fitter(long_tail, tmp_path, ValSplit(None), ensemble={"classifiers": ["joint", "ncm"]})
    fitted = fits.fitted("ensemble")
    assert fitted.classifier.parts["joint"].temperature >= 1, "images that it was trained on cannot make it surer"
    held = fits.held_out(fitted)
    assert held.fitted_on == "a fifth of train, held out; its joint weights were trained on all of it: too sure"
    features = torch.from_numpy(long_tail.train.features[held.rows_N])
    in_sample = fitted.classifier.scores(features)
    assert not np.allclose(held.scores_NC.numpy(), in_sample.numpy(), atol=1e-3), "the means were measured again"


def test_a_member_that_does_not_apply_is_refused_as_if_it_were_asked_for(long_tail: LongTail, tmp_path: Path) -> None:
    config = fitter(long_tail, tmp_path, classifiers=["ensemble"], ensemble={"classifiers": ["crt", "tau"]}).config
    assert with_members(config) == ["ensemble", "crt", "tau"]
    with pytest.raises(UsageError, match=r"tau does not apply to model\.head=cosine"):
        check_applicable(with_members(config), ModelConfig(head="cosine"))
