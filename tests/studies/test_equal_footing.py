"""Rows of a study by their few-shot accuracy at equal many-shot accuracy."""

import pytest

from ltrsys.classifiers.base import Classifier
from ltrsys.classifiers.retrained.crt import RetrainedClassifier
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.evaluation.tilting import Tilting
from ltrsys.features.config import RetrainConfig
from ltrsys.metrics.config import ShotsConfig
from ltrsys.second_stage.config import BalanceConfig
from ltrsys.second_stage.store import Fitted
from ltrsys.studies.equal_footing import AtEqualMany, at_equal_many, trade_off
from ltrsys.studies.measuring import Measured
from tests.classifiers.conftest import CPU, LongTail, context

GRID = BalanceConfig().tilt_grid


def measured(data: LongTail, classifier: Classifier, grid: list[float] = GRID) -> Measured:
    split = EvaluatedSplit("test", data.test, data.train.class_counts, ShotsConfig(), CPU)
    tilting = Tilting(split, data.val, "mean_class_accuracy", grid, data.joint)
    fitted = Fitted(classifier, "bank", classifier.name)
    line = tilting.with_tilt(split.line(fitted, data.joint), fitted)
    labels = data.test.labels
    few = split.shot_of_class[labels] == "few"
    hits = tilting.few_shot_hits(classifier)
    return Measured(line, labels, split.predictions(classifier), few, hits, data.test.num_classes)


@pytest.fixture
def crt(long_tail: LongTail) -> RetrainedClassifier:
    return RetrainedClassifier.fit(context(long_tail.train), RetrainConfig(epochs=8, lr=0.1, batch_size=64))


def test_within_a_run_it_is_what_balance_says(long_tail: LongTail, crt: RetrainedClassifier) -> None:
    joint, own = measured(long_tail, long_tail.joint), measured(long_tail, crt)
    equal = at_equal_many([own], [joint], is_reference=False)
    assert equal.few == [own.line.tilt.equal_many_shot.few] == at_equal_many([own], [], is_reference=False).few
    assert 0 < equal.p_value < 0.05, "cRT is better here"
    assert own.line.tilt.equal_many_shot.p_value < 0.05


def test_the_reference_row_shows_what_others_are_compared_with(long_tail: LongTail) -> None:
    joint = measured(long_tail, long_tail.joint)
    own = at_equal_many([joint, joint], [], is_reference=True)
    assert own.few == [joint.line.tilt.curve.at(joint.line.tilt.chosen)["few"]] * 2
    assert own.p_value is None
    assert at_equal_many([joint], [joint], is_reference=False) == AtEqualMany(own.few[:1], 1.0)


def test_rows_that_are_never_equal_are_not_compared(long_tail: LongTail, crt: RetrainedClassifier) -> None:
    joint, own = measured(long_tail, long_tail.joint), measured(long_tail, crt, grid=[2.0])
    assert abs(own.line.tilt.curve.many[0] - joint.line.many) > 2
    assert at_equal_many([own], [joint], is_reference=False) == AtEqualMany([None], None)


def test_curves_are_means_over_the_seeds(long_tail: LongTail, crt: RetrainedClassifier) -> None:
    joint, own = measured(long_tail, long_tail.joint), measured(long_tail, crt)
    curve = trade_off([joint, own])
    both = [one.line.tilt.curve.few for one in (joint, own)]
    assert curve.few == pytest.approx([sum(pair) / 2 for pair in zip(*both, strict=True)])
    assert curve.t == GRID
    assert trade_off([]) is None
    assert trade_off([measured(long_tail, crt, grid=[])]) is None
