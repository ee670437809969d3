import pytest

from ltrsys.evaluation.balanced_run import BalancedRun
from ltrsys.pages.panels.base import Material
from ltrsys.pages.panels.training import MOST_POINTS, Training, TrainingData
from ltrsys.pages.thumbnails import Thumbnails

pytestmark = pytest.mark.long


def test_long_curves_are_averaged_and_lines_without_an_epoch_left_out(balanced: BalancedRun) -> None:
    data = Training.data(Material(balanced, Thumbnails()))
    assert isinstance(data, TrainingData)
    curves = {curve.name: curve for curve in data.curves}
    assert list(curves) == ["train/loss", "train/learning_rate", "val/all"], (
        "what is null alone, or of `balance`, is no curve"
    )
    loss = curves["train/loss"]
    assert len(loss.epoch) == len(loss.value) == MOST_POINTS
    assert loss.value[0] == pytest.approx((5 / 2 + 5 / 3 + 5 / 4) / 3, rel=1e-5), "1,000 points in parts of 3 and 2"
    assert loss.value == sorted(loss.value, reverse=True)
    assert (curves["val/all"].epoch, curves["val/all"].value) == ([10.0], [41.0])


def test_a_run_without_metrics_has_no_curves(another: BalancedRun) -> None:
    assert Training.data(Material(another, Thumbnails())) is None
