"""A run beside its export."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.nearest.ncm import NCMConfig, NearestClassMean
from ltrsys.errors import DataError
from ltrsys.export.comparison import Comparison, accuracy_lines, compare, exact_scores, lost
from ltrsys.export.images import Noise
from ltrsys.metrics.accuracy import MEAN
from tests.classifiers.conftest import NUM_CLASSES, LongTail, context
from tests.export.models import loaded, subject_of


def comparison(before: list[int], after: list[int], tied: list[bool], largest: float = 0.0) -> Comparison:
    return Comparison(
        "4 images of test", np.zeros(4, np.int64), np.array(before), np.array(after), np.array(tied), largest
    )


def test_a_tie_may_be_decided_either_way() -> None:
    equal = comparison([0, 1, 2, 3], [0, 1, 2, 0], [True, False, False, True], 1e-6)
    assert (equal.same, equal.outside("float32")) == (4, None)
    assert "same top-1 on 4 of 4 (1 by a tie), probabilities to 1e-06 (4 images of test)" in equal.line()
    other = comparison([0, 1, 2, 3], [0, 1, 2, 0], [True, False, False, False])
    assert other.outside("float32") == "the best class differs on 1 of 4 images of test"


@pytest.mark.parametrize(
    ("precision", "largest", "allowed"),
    [
        ("float32", 1e-4, True),
        ("float32", 1.1e-4, False),
        ("float32", float("nan"), False),
        ("float16", 0.02, True),
        ("float16", 0.021, False),
        ("int8", 0.9, True),
    ],
)
def test_each_precision_has_its_bound(precision, largest: float, allowed: bool) -> None:
    assert (comparison([0] * 4, [0] * 4, [True] * 4, largest).outside(precision) is None) == allowed


def test_a_point_of_accuracy_may_be_lost_and_no_more() -> None:
    before = {"many": 90.0, "medium": 80.0, "few": None, "all": 85.0, MEAN: 82.0}
    assert lost(before, before | {"all": 84.0, "many": 50.0}) is None
    assert lost(before, before | {"all": 83.9}) == "1.1 points of accuracy (all: 85.0 before, 83.9 after)"
    assert lost(before, before | {MEAN: 70.0}) == "12.0 points of accuracy (mean: 82.0 before, 70.0 after)"
    table = accuracy_lines({"before": before})
    assert table[1].split() == ["before", "90.0", "80.0", "–", "85.0", "82.0"]
    assert len(table[0]) == len(table[1])


def test_run_and_export_are_compared_on_the_same_pixels(long_tail: LongTail, tmp_path: Path) -> None:
    model = loaded(long_tail.joint, tmp_path)
    subject, images = subject_of(model, temperature=2.0), Noise(40, model.signature.preprocessing)
    seen: list[Tensor] = []

    def run(pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return subject.folded(pixels)[1]

    same = compare(model, subject.folded, run, images, labelled=False)
    assert (same.same, same.labels_N) == (40, None)
    assert same.largest_difference < 1e-5
    subject.folded.normalise(model.signature.preprocessing.mean, model.signature.preprocessing.std)
    as_bytes = compare(model, subject.folded, run, images, labelled=True)
    assert seen[-1].dtype == torch.uint8
    assert as_bytes.largest_difference < 1e-5
    subject.folded.temperature = 1.0
    hot = compare(model, subject.folded, lambda pixels: subject.folded(pixels)[1] * 0.9, images, labelled=False)
    assert hot.largest_difference > 0.01


def test_nan_is_found_in_the_run_and_in_the_export(long_tail: LongTail, tmp_path: Path) -> None:
    model = loaded(long_tail.joint, tmp_path)
    subject, images = subject_of(model), Noise(2, model.signature.preprocessing)
    found = compare(
        model, subject.folded, lambda pixels: torch.full((2, NUM_CLASSES), torch.nan), images, labelled=False
    )
    assert found.outside("float32") is not None
    with torch.no_grad():
        model.backbone[4].weight.fill_(torch.nan)
    with pytest.raises(DataError, match="the network gives NaN or infinite features"):
        compare(model, subject.folded, lambda pixels: subject.folded(pixels)[1], images, labelled=False)


def test_scores_are_exact_where_float32_rounds(long_tail: LongTail) -> None:
    far = long_tail.test.features[:50] + 300
    ncm = NearestClassMean.fit(context(long_tail.train), NCMConfig(feature="plain"))
    means = ncm.means_CD.double().numpy()
    truth = -np.square(far.astype(np.float64)[:, None] - means).sum(axis=2)
    found = exact_scores(ncm, torch.from_numpy(far)).numpy()
    np.testing.assert_allclose(found, truth, rtol=1e-12)
    assert np.abs(ncm.scores(torch.from_numpy(far)).numpy() - truth).max() > 1e-3


def test_a_classifier_for_float32_alone_is_taken_as_it_is(long_tail: LongTail) -> None:
    class Stubborn(Joint):
        def scores(self, features_ND: Tensor) -> Tensor:
            return features_ND @ torch.ones(features_ND.shape[1], 3)

    features = torch.from_numpy(long_tail.test.features[:3])
    assert exact_scores(Stubborn(long_tail.joint.weight_CD, None), features).dtype == torch.float32
