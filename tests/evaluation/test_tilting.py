"""Classifiers over all tilts: the curve, the choice on val, and few-shot accuracy at equal many-shot accuracy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ltrsys.classifiers.adjusted.logit_adjusted import LogitAdjusted, LogitAdjustedConfig
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.retrained.cosine import CosineConfig
from ltrsys.classifiers.retrained.cosine_no_relu import CosineBeforeLastReLU
from ltrsys.classifiers.retrained.crt import RetrainedClassifier
from ltrsys.classifiers.tilt import log_prior
from ltrsys.evaluation.results import Line
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.evaluation.tilting import Tilting, place_of_equal
from ltrsys.features.bank import BankSplit
from ltrsys.features.config import RetrainConfig
from ltrsys.metrics.accuracy import ALL_COLUMNS
from ltrsys.metrics.config import ShotsConfig
from ltrsys.second_stage.config import BalanceConfig
from ltrsys.second_stage.store import Fitted
from tests.classifiers.conftest import CPU, LongTail, context

SHORT = CosineConfig(epochs=8, lr=0.1, batch_size=64)
GRID = [round(0.1 * step, 1) for step in range(-10, 21)]


@pytest.fixture
def crt(long_tail: LongTail) -> Fitted:
    config = RetrainConfig(epochs=8, lr=0.1, batch_size=64)
    return Fitted(RetrainedClassifier.fit(context(long_tail.train), config), "bank", "crt")


def tilting(data: LongTail, *, val: bool = True, grid: list[float] = GRID) -> Tilting:
    reported = EvaluatedSplit("test", data.test, data.train.class_counts, ShotsConfig(), CPU)
    return Tilting(reported, data.val if val else None, "mean_class_accuracy", grid, data.joint)


def line(tilted: Tilting, fitted: Fitted) -> Line:
    return tilted.with_tilt(tilted.reported.line(fitted, tilted.joint), fitted)


def test_at_no_tilt_the_curve_is_the_line(long_tail: LongTail, crt: Fitted) -> None:
    measured = line(tilting(long_tail), crt)
    assert measured.tilt.curve.at(0.0) == {column: getattr(measured, column) for column in ALL_COLUMNS}
    assert measured.tilt.curve.t == GRID


def test_a_classifier_is_ranked_and_tilted_on_its_own_features(long_tail: LongTail, crt: Fitted) -> None:
    def with_others(split: BankSplit) -> BankSplit:
        """Give it features of the kind `no_relu`: those of another order."""
        other = np.ascontiguousarray(split.features[:, ::-1])
        return replace(split, features_by_kind={"last": split.features, "no_relu": other})

    data = replace(long_tail, val=with_others(long_tail.val), test=with_others(long_tail.test))
    turned = CosineBeforeLastReLU.fit(context(with_others(long_tail.train).of("no_relu")), SHORT)
    tilted = tilting(data)
    measured = line(tilted, Fitted(turned, "bank", "turned"))
    own = turned.rank(torch.from_numpy(data.test.of("no_relu").features.copy()), 5).numpy()
    assert np.array_equal(tilted.reported.ranking(turned), own)
    assert measured.all == pytest.approx(100 * (own[:, 0] == data.test.labels).mean())
    assert measured.tilt.curve.at(0.0)["all"] == measured.all > 50
    on_val = turned.scores(torch.from_numpy(data.val.of("no_relu").features.copy()))
    tilts = [(on_val - t * log_prior(data.train.class_counts)).argmax(dim=1).numpy() for t in GRID]
    accuracies = [(row == data.val.labels).mean() for row in tilts]
    assert accuracies[GRID.index(measured.tilt.chosen)] == max(accuracies)
    assert line(tilted, crt) == line(tilting(long_tail), crt), "the others are what they are without"


def test_a_tilt_moves_accuracy_from_many_to_few(long_tail: LongTail, crt: Fitted) -> None:
    curve = line(tilting(long_tail), crt).tilt.curve
    assert curve.many[0] > curve.many[10] > curve.many[-1]
    assert curve.few[0] < curve.few[5] < curve.few[10], "until the rarest take from the others"


def test_the_tilt_of_joint_is_that_of_logit_adjustment(long_tail: LongTail) -> None:
    asked = context(long_tail.train, joint=long_tail.joint, val=long_tail.val, select_on="val")
    adjusted = LogitAdjusted.fit(asked, LogitAdjustedConfig())
    tilted = tilting(long_tail, grid=LogitAdjustedConfig().grid)
    joint = line(tilted, Fitted(long_tail.joint, "bank", "joint"))
    assert joint.tilt.chosen == adjusted.t
    own = tilted.reported.line(Fitted(adjusted, "bank", "adjusted"), long_tail.joint)
    assert joint.tilt.curve.at(adjusted.t)["few"] == own.few
    assert joint.tilt.equal_many_shot is None


def test_few_shot_accuracy_is_compared_at_the_nearest_many_shot_accuracy(long_tail: LongTail, crt: Fitted) -> None:
    tilted = tilting(long_tail)
    joint = line(tilted, Fitted(long_tail.joint, "bank", "joint")).tilt
    equal = line(tilted, crt).tilt.equal_many_shot
    reference = joint.curve.at(joint.chosen)
    assert (equal.joint_many, equal.joint_few) == (reference["many"], reference["few"])
    curve = line(tilted, crt).tilt.curve
    distances = [abs(many - equal.joint_many) for many in curve.many]
    assert abs(equal.many - equal.joint_many) == pytest.approx(min(distances))
    assert (equal.many, equal.few) == (curve.at(equal.t)["many"], curve.at(equal.t)["few"])
    assert 0 < equal.p_value <= 1


def test_a_tilt_that_gives_up_many_shot_classes_too_is_no_equal() -> None:
    grid, many = [-0.2, -0.1, 0.0, 0.1, 0.2], [60.0, 90.0, 85.0, 70.0, 58.0]
    assert place_of_equal(grid, many, 60.5) == 4
    assert place_of_equal(grid, many, 95.0) == 1
    assert place_of_equal(grid, [90.0, 90.0, 80.0, 80.0, 80.0], 80.0) == 2, "the smallest of equals"


class Hundredths(Joint):
    """The joint classifier with scores that differ by hundredths, as those of NCM do."""

    name = "hundredths"

    def scores(self, features_ND: torch.Tensor) -> torch.Tensor:
        return super().scores(features_ND) / 50


def test_the_default_tilts_are_fine_enough_for_scores_that_differ_by_hundredths(long_tail: LongTail) -> None:
    small, joint = (
        Fitted(classifier, "bank", classifier.name)
        for classifier in (Hundredths(**vars(long_tail.joint)), long_tail.joint)
    )
    usual = line(tilting(long_tail), joint).tilt
    coarse, fine = (line(tilting(long_tail, grid=grid), small).tilt for grid in (GRID, BalanceConfig().tilt_grid))
    best = usual.curve.at(usual.chosen)["mean_class_accuracy"]
    assert fine.curve.at(fine.chosen)["mean_class_accuracy"] == pytest.approx(best, abs=1)
    assert coarse.curve.at(coarse.chosen)["mean_class_accuracy"] < best - 5


def test_a_classifier_that_is_joint_tilted_gains_nothing_at_equal_many_shot_accuracy(long_tail: LongTail) -> None:
    asked = context(long_tail.train, joint=long_tail.joint)
    adjusted = Fitted(LogitAdjusted.fit(asked, LogitAdjustedConfig(select_on="none")), "bank", "adjusted")
    tilted = tilting(long_tail)
    measured = line(tilted, adjusted)
    assert measured.few > tilted.reported.line(Fitted(long_tail.joint, "bank", "joint"), long_tail.joint).few + 8
    assert measured.tilt.equal_many_shot.few == measured.tilt.equal_many_shot.joint_few
    assert measured.tilt.equal_many_shot.p_value == 1.0


def test_without_val_nothing_is_chosen_and_joint_is_tilted_by_1(long_tail: LongTail, crt: Fitted) -> None:
    tilted = tilting(long_tail, val=False)
    measured = line(tilted, crt)
    assert measured.tilt.chosen is None
    joint = line(tilted, Fitted(long_tail.joint, "bank", "joint")).tilt
    assert measured.tilt.equal_many_shot.joint_few == joint.curve.at(1.0)["few"]


def test_a_line_keeps_its_tilt_until_something_changes(long_tail: LongTail, crt: Fitted) -> None:
    measured = line(tilting(long_tail), crt)
    assert tilting(long_tail).with_tilt(measured, crt) is measured
    assert tilting(long_tail, grid=[0.0, 1.0]).with_tilt(measured, crt).tilt.curve.t == [0.0, 1.0]
    assert tilting(long_tail, grid=[]).with_tilt(measured, crt).tilt is None


def test_classes_without_test_images_are_no_mistake(long_tail: LongTail, crt: Fitted) -> None:
    shots = ShotsConfig(many=10**6, few=10**6 - 1)
    reported = EvaluatedSplit("test", long_tail.test, long_tail.train.class_counts, shots, CPU)
    tilted = Tilting(reported, None, "accuracy", GRID, long_tail.joint)
    measured = line(tilted, crt)
    assert measured.tilt.equal_many_shot is None
    assert set(measured.tilt.curve.many) == {None}
    assert np.isfinite(measured.tilt.curve.all).all()
