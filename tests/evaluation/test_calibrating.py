"""How sure classifiers are on the reported split, against plain numpy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ltrsys.calibration.calibration import Calibration
from ltrsys.calibration.fitting import Calibrator
from ltrsys.classifiers.base import ValSplit
from ltrsys.evaluation import calibrating
from ltrsys.evaluation.calibrating import PRECISIONS, with_calibration
from ltrsys.evaluation.results import Line
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.features.bank import BankSplit
from ltrsys.metrics.config import ShotsConfig
from ltrsys.second_stage.store import Fitted
from tests.calibration.banks import fitter_of
from tests.classifiers.conftest import CPU, LongTail

SHOTS = ("many", "medium", "few")


@pytest.fixture
def reported(long_tail: LongTail) -> EvaluatedSplit:
    return EvaluatedSplit("test", long_tail.test, long_tail.train.class_counts, ShotsConfig(), CPU)


@pytest.fixture
def calibrated(long_tail: LongTail, tmp_path: Path) -> tuple[Fitted, Calibration]:
    fitter = fitter_of(long_tail, tmp_path, val=ValSplit("val"))
    fitted = fitter.fitted("joint")
    return fitted, Calibrator(fitter).calibrated(fitted)


def line(reported: EvaluatedSplit, calibrated: tuple[Fitted, Calibration], long_tail: LongTail) -> Line:
    fitted, calibration = calibrated
    return with_calibration(reported.line(fitted, long_tail.joint), fitted, calibration, reported)


def test_all_that_is_told_is_what_numpy_makes_of_the_images(reported, calibrated, long_tail) -> None:
    found, (_, calibration) = line(reported, calibrated, long_tail).calibration, calibrated
    labels = long_tail.test.labels
    logits = long_tail.joint.scores(torch.from_numpy(long_tail.test.features)).double().numpy()
    powers = np.exp(logits / calibration.temperature)
    chances = powers / powers.sum(axis=1, keepdims=True)
    confidence, correct = chances.max(axis=1), chances.argmax(axis=1) == labels
    shot = reported.shot_of_class[labels]
    groups = {name: shot == name for name in SHOTS} | {"all": np.ones(len(labels), dtype=bool)}
    assert (found.temperature, found.fitted_on, found.fitted_images) == (calibration.temperature, "val", 500)
    for name, chosen in groups.items():
        width = np.ceil(confidence[chosen] * 15)
        error = sum(
            abs((correct[chosen] * 1.0 - confidence[chosen])[width == number].sum()) for number in np.unique(width)
        )
        assert found.after.calibration_error_equal_width[name] == pytest.approx(100 * error / chosen.sum())
        for reached, precision in zip(found.precisions, PRECISIONS, strict=True):
            assert reached.wanted == precision
            assert reached.threshold == calibration.threshold(precision)
            answered = chosen & (confidence >= (2 if reached.threshold is None else reached.threshold))
            assert reached.answered[name] == pytest.approx(100 * answered.sum() / chosen.sum())
            right = 100 * correct[answered].mean() if answered.any() else None
            assert reached.precision[name] == (right and pytest.approx(right))
        for sets, conformity, rising in (
            (found.sets, chances, calibration.plain.rising_n),
            (
                found.adjusted_sets,
                chances / (long_tail.train.class_counts / len(long_tail.train)),
                calibration.adjusted.rising_n,
            ),
        ):
            inside = conformity >= float(rising[500 - int(np.ceil(501 * 0.9))])
            covered = inside[np.arange(len(labels)), labels]
            assert sets.coverage[name] == pytest.approx(100 * covered[chosen].mean())
            assert sets.mean_size[name] == pytest.approx(inside.sum(axis=1)[chosen].mean())
            assert sets.median_size[name] == np.median(inside.sum(axis=1)[chosen])
            by_class = [covered[labels == own].mean() for own in range(20)]
            assert sets.coverage["mean_class_accuracy"] == pytest.approx(100 * np.mean(by_class))
    drawn = found.before.bins
    assert sum(drawn.images) == len(labels)
    assert np.average(drawn.accuracy, weights=drawn.images) == pytest.approx(correct.mean())
    gaps = np.abs(np.array(drawn.accuracy) - drawn.confidence)
    assert found.before.calibration_error["all"] == pytest.approx(100 * np.average(gaps, weights=drawn.images))


def test_calibration_makes_confidence_and_accuracy_meet(reported, calibrated, long_tail) -> None:
    found = line(reported, calibrated, long_tail).calibration
    assert found.after.calibration_error["all"] < found.before.calibration_error["all"]
    assert found.sets.coverage["all"] == pytest.approx(90, abs=4)
    assert found.adjusted_sets.coverage["few"] > found.sets.coverage["few"]


def test_a_line_keeps_its_calibration_until_something_changes(reported, calibrated, long_tail, monkeypatch) -> None:
    fitted, calibration = calibrated
    measured = line(reported, calibrated, long_tail)
    assert with_calibration(measured, fitted, calibration, reported) is measured
    assert with_calibration(measured, fitted, None, reported).calibration is None
    for other in (
        (replace(calibration, fingerprint="another"), reported),
        (calibration, replace(reported, shots=ShotsConfig(many=50))),
    ):
        assert with_calibration(measured, fitted, *other).calibration.fingerprint != measured.calibration.fingerprint
    monkeypatch.setattr(calibrating, "VERSION", 99)
    again = with_calibration(measured, fitted, calibration, reported)
    assert again.calibration.fingerprint != measured.calibration.fingerprint


def test_a_group_without_images_has_no_numbers(calibrated, long_tail) -> None:
    frequent = long_tail.test.labels < 3
    test = BankSplit(long_tail.test.features[frequent], long_tail.test.labels[frequent], 20)
    reported = EvaluatedSplit("test", test, long_tail.train.class_counts, ShotsConfig(), CPU)
    found = line(reported, calibrated, long_tail).calibration
    for numbers in (found.after.calibration_error, found.sets.coverage, found.adjusted_sets.mean_size):
        assert numbers["few"] is None
        assert numbers["all"] is not None
    assert found.precisions[0].answered["few"] is None
