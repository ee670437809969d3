"""`tau_sweep` and `ncm_search` give the answer of exact arithmetic, whatever screens for them and however often."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrsys.kernels import ncm_search, reference, tau_sweep
from ltrsys.kernels.cpu import tau_sweep as module
from ltrsys.kernels.cpu.block_search import BlockSearch
from tests.kernels.cpu.conftest import TAUS, on_processor, random, with_near_ties


@pytest.mark.usefixtures("screened_by")
@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6, 1e-8])
def test_near_ties_are_decided_as_in_float64(gap):
    features = random(200, 64)
    classes = with_near_ties(features, random(100, 64, seed=1), gap)
    assert torch.equal(tau_sweep(features, classes, TAUS), reference.tau_sweep(features, classes, TAUS))
    for metric in ("cosine", "euclidean"):
        found = ncm_search(features, classes, 4, metric)[1]
        assert torch.equal(found, reference.ncm_search(features, classes, 4, metric, None)[1])


@pytest.mark.usefixtures("screened_by")
def test_equal_classes_tie_and_the_lowest_is_taken():
    features, distinct = random(50, 40), random(60, 40, seed=1)
    classes = torch.cat([distinct, distinct, distinct])
    assert (tau_sweep(features, classes, TAUS) < 60).all()
    for metric in ("cosine", "euclidean"):
        found = ncm_search(features, classes, 6, metric)[1].view(50, 2, 3)
        assert torch.equal(found - found[:, :, :1], torch.tensor([0, 60, 120]).expand(50, 2, 3))
        assert (found[:, :, 0] < 60).all()


@pytest.mark.usefixtures("screened_by")
def test_a_zero_feature_ties_everywhere():
    features = torch.zeros(3, 40)
    features[1] = random(40)
    classes = random(300, 40, seed=1)
    predictions = tau_sweep(features, classes, TAUS)
    assert (predictions[:, [0, 2]] == 0).all()
    assert torch.equal(predictions, reference.tau_sweep(features, classes, TAUS))
    scores, found = ncm_search(features, classes, 3)
    assert found[[0, 2]].tolist() == [[0, 1, 2]] * 2
    assert (scores[[0, 2]] == 0).all()
    nearest_to_zero = classes.double().norm(dim=1).argsort()[:3]
    assert torch.equal(ncm_search(features, classes, 3, "euclidean")[1][0], nearest_to_zero)


@pytest.mark.usefixtures("screened_by")
def test_a_class_of_zeros_takes_part():
    features, classes = -random(100, 40).abs(), random(200, 40, seed=1).abs()
    classes[[70, 150]] = 0  # all others score below 0
    assert (tau_sweep(features, classes, TAUS) == 70).all()
    scores, found = ncm_search(features, classes, 2)
    assert found.tolist() == [[70, 150]] * 100
    assert (scores == 0).all()


@pytest.mark.usefixtures("screened_by")
@settings(deadline=None, max_examples=25)
@given(st.integers(-45, 38), st.integers(-45, 38), st.integers(0, 1000))
def test_features_and_classes_of_any_magnitude(feature_power, class_power, seed):
    features = (random(7, 20, seed=seed) * 10.0**feature_power).nan_to_num(posinf=3e38, neginf=-3e38)
    classes = (random(80, 20, seed=seed + 1) * 10.0**class_power).nan_to_num(posinf=3e38, neginf=-3e38)
    taus = torch.tensor([0.0, 0.5, 1.0])
    assert torch.equal(tau_sweep(features, classes, taus), reference.tau_sweep(features, classes, taus))
    found = ncm_search(features, classes, 2)[1]
    assert torch.equal(found, reference.ncm_search(features, classes, 2, "cosine", None)[1])


@pytest.mark.usefixtures("screened_by")
def test_one_feature_out_of_range_does_not_change_the_others():
    features, classes = random(50, 20), random(80, 20, seed=1)
    features[7] *= 1e-30
    features[9] *= 1e30
    assert torch.equal(tau_sweep(features, classes, TAUS), reference.tau_sweep(features, classes, TAUS))
    found = ncm_search(features, classes, 3)[1]
    assert torch.equal(found, reference.ncm_search(features, classes, 3, "cosine", None)[1])


def test_features_that_no_screen_decides_are_compared_at_the_end_together(monkeypatch):
    monkeypatch.setattr(module, "ROWS_OF_A_BLOCK", 10)
    calls = []
    compared = reference.tau_sweep
    monkeypatch.setattr(
        reference, "tau_sweep", lambda features, *more: calls.append(len(features)) or compared(features, *more)
    )
    features, classes = random(50, 20), random(300, 20, seed=1)
    features[::10] = 0
    found = tau_sweep(features, classes, TAUS)
    assert calls == [5]
    assert torch.equal(found, compared(features, classes, TAUS))


def test_features_with_too_many_candidates_are_searched_more_closely(monkeypatch):
    """All classes within bfloat16's rounding of one another: the first screen leaves everything open."""
    on_processor(monkeypatch, "bfloat16")
    monkeypatch.setattr(BlockSearch, "most_candidates", 8)
    seen = []
    screened = BlockSearch._screened

    def watched(self, rows, screen):
        seen.append((type(screen).__name__, len(rows)))
        return screened(self, rows, screen)

    monkeypatch.setattr(BlockSearch, "_screened", watched)
    features = random(30, 50)
    classes = random(1, 50, seed=1) + 1e-3 * random(500, 50, seed=2)
    assert torch.equal(tau_sweep(features, classes, TAUS), reference.tau_sweep(features, classes, TAUS))
    assert [name for name, _ in seen] == ["RoundedScreen", "PlainScreen"]
    assert seen[1][1] > 0


def test_nothing_beyond_a_block_of_scores_is_held():
    """At 8,142 classes, the memory that a search allocates does not grow with the number of features."""
    classes = random(8142, 64, seed=1)
    peaks = []
    for samples in (768, 2304):
        features = random(samples, 64)
        with torch.profiler.profile(profile_memory=True) as profile:
            tau_sweep(features, classes, TAUS)
        sizes = np.cumsum(
            [event.nbytes() for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
        )
        peaks.append(sizes.max())
    assert peaks[1] - peaks[0] < 8 << 20
