"""`tau_sweep` and `ncm_search` give the answer of exact arithmetic, whatever screens for them."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrsys.kernels import ncm_search, nearest, reference, screens, search, sweep, tau_sweep

TAUS = torch.arange(0, 2.01, 0.1)
SHAPES = [
    *[(1, 64, 3), (5, 65, 2), (37, 507, 17), (252, 507, 123)],
    pytest.param((30, 8142, 257), marks=pytest.mark.long),
]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


PROCESSORS = {
    "int8": {"int8", "bfloat16", "float32"},
    "bfloat16": {"bfloat16", "float32"},
    "float32": {"float32"},
}


def on_processor(monkeypatch, name):
    """Screen as on a processor that has instructions for some products; torch computes them on any."""
    monkeypatch.setattr(screens, "fast_products", lambda: PROCESSORS[name])


@pytest.fixture(params=PROCESSORS)
def screened_by(request, monkeypatch):
    on_processor(monkeypatch, request.param)
    return request.param


@pytest.fixture
def small_blocks(monkeypatch):
    for module in (nearest, sweep):
        monkeypatch.setattr(module, "ROWS_OF_A_BLOCK", 100)


def with_near_ties(features, classes, gap, seed=5):
    """Append a copy of every second class, changed so that its product with a feature differs by about `gap`."""
    copies = classes[::2].clone()
    return torch.cat([classes, copies + gap * random(*copies.shape, seed=seed) / copies.shape[1] ** 0.5])


@cache
def sweep_case(shape, dtype):
    """Features, classes and the exact answer, which takes longer than all screens together."""
    samples, classes, dim = shape
    features = random(samples, dim).to(dtype)
    weight = random(classes, dim, seed=1) * torch.linspace(0.2, 3, classes)[:, None]
    return features, weight, reference.tau_sweep(features, weight, TAUS)


@pytest.mark.usefixtures("small_blocks", "screened_by")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_tau_sweep_is_exact(shape, dtype):
    features, weight, expected = sweep_case(shape, dtype)
    assert torch.equal(tau_sweep(features, weight, TAUS), expected)


@cache
def search_case(shape, metric, centred):
    """Features, class means, centre and the exact answers by k."""
    samples, classes, dim = shape
    features, means = random(samples, dim) + 1, random(classes, dim, seed=1) + 1
    center = random(dim, seed=2) + 1 if centred else None
    return features, means, center, {k: reference.ncm_search(features, means, k, metric, center) for k in (1, 5, 64)}


@pytest.mark.usefixtures("small_blocks", "screened_by")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("centred", [False, True])
def test_ncm_search_is_exact(shape, metric, centred):
    features, means, center, answers = search_case(shape, metric, centred)
    for k, (expected_scores, expected) in answers.items():
        scores, found = ncm_search(features, means, k, metric, center)
        assert torch.equal(found, expected)
        torch.testing.assert_close(scores, expected_scores, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("screened_by")
@pytest.mark.parametrize("k", [1, 2, 99, 100, 300])
def test_any_number_of_classes_is_found(k):
    features, means = random(20, 33), random(300, 33, seed=1)
    found = ncm_search(features, means, k)[1]
    assert torch.equal(found, reference.ncm_search(features, means, k, "cosine", None)[1])


@pytest.mark.usefixtures("screened_by")
@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6, 1e-8])
def test_near_ties_are_decided_as_in_float64(gap):
    features = random(200, 64)
    classes = with_near_ties(features, random(100, 64, seed=1), gap)
    assert torch.equal(tau_sweep(features, classes, TAUS), reference.tau_sweep(features, classes, TAUS))
    for metric in ("cosine", "euclidean"):
        found = ncm_search(features, classes, 4, metric)[1]
        assert torch.equal(found, reference.ncm_search(features, classes, 4, metric, None)[1])


def rounded_away():
    """A feature and 66 classes: bfloat16 takes from the feature just what makes class 64 better than class 65.

    Half of the feature's numbers are a little over 1, and become 1. Class 64 counts these in and the others out, and
    so scores 1.98; in bfloat16 nothing is left. Class 65 counts them out and scores 0.02, which becomes 2.
    """
    half = 512
    feature = torch.cat([torch.full((half,), 1 + 0.99 * 2.0**-8), torch.ones(half)])
    plus_minus = torch.cat([torch.ones(half), -torch.ones(half)])
    minus_plus = -plus_minus
    minus_plus[0] = 1.0
    others = -torch.ones(64, 2 * half)
    return feature[None], torch.cat([others, plus_minus[None], minus_plus[None]])


def test_what_rounding_takes_from_a_feature_is_allowed_for(monkeypatch):
    on_processor(monkeypatch, "bfloat16")
    feature, classes = rounded_away()
    assert tau_sweep(feature, classes, TAUS).unique().tolist() == [64]
    monkeypatch.setattr(screens, "product_error", lambda features, classes: torch.zeros(len(features.norm_R)))
    assert tau_sweep(feature, classes, TAUS).unique().tolist() == [65]


def test_the_rounding_of_the_result_is_allowed_for(monkeypatch):
    """Class 65 scores 257, which bfloat16 rounds to 256: less than three times the 85.5 of class 64."""
    on_processor(monkeypatch, "bfloat16")
    feature = torch.zeros(1, 8)
    feature[0, [0, 1, 4]] = torch.tensor([512.0, 2.0, 85.5])
    classes = torch.zeros(66, 8)
    classes[:31, 0], classes[31:64, 0] = -1.0, -3.0
    classes[64, 4] = 3.0
    classes[65, :4] = 0.5
    monkeypatch.setattr(screens, "product_error", lambda features, classes: torch.zeros(len(features.norm_R)))
    taus = torch.zeros(1)
    exact = reference.tau_sweep(feature, classes, taus)
    assert exact.item() == 65
    assert torch.equal(tau_sweep(feature, classes, taus), exact)
    monkeypatch.setattr(screens.RoundedScreen, "UNIT", 0.0)
    assert tau_sweep(feature, classes, taus).item() == 64


def test_what_whole_numbers_of_8_bits_take_is_allowed_for(monkeypatch):
    on_processor(monkeypatch, "int8")
    features = random(500, 64)
    classes = with_near_ties(features, random(100, 64, seed=1), 0.05)
    exact = reference.ncm_search(features, classes, 1, "cosine", None)[1]
    assert torch.equal(ncm_search(features, classes)[1], exact)
    monkeypatch.setattr(screens, "product_error", lambda features, classes: torch.zeros(len(features.norm_R)))
    assert not torch.equal(ncm_search(features, classes)[1], exact)


def test_a_screen_that_leaves_too_much_is_not_tried_again(monkeypatch):
    on_processor(monkeypatch, "int8")
    monkeypatch.setattr(nearest, "ROWS_OF_A_BLOCK", 50)
    made = []
    for screen in (screens.ByteScreen, screens.RoundedScreen, screens.PlainScreen):
        scores = screen.scores

        def watched(self, features, scores=scores):
            made.append(type(self).__name__)
            return scores(self, features)

        monkeypatch.setattr(screen, "scores", watched)
    features, means = random(150, 16), random(16, 16, seed=1).repeat(90, 1)
    means += 1e-3 * random(*means.shape, seed=2)
    found = ncm_search(features, means)[1]
    assert torch.equal(found, reference.ncm_search(features, means, 1, "cosine", None)[1])
    assert [made.count(name) for name in ("ByteScreen", "RoundedScreen")] == [1, 1]
    assert made[-1] == "PlainScreen"


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


def test_small_distances_survive_large_coordinates():
    means = torch.stack([torch.full((64,), 10000.0), torch.arange(64) / 4], dim=1)
    features = means + torch.tensor([0.0, 0.0625])
    scores, classes = ncm_search(features, means, k=2, metric="euclidean")
    assert classes[:, 0].tolist() == list(range(64))
    torch.testing.assert_close(scores[:-1], torch.tensor([[-0.0625, -0.1875]]).expand(63, 2), rtol=1e-6, atol=0)


@pytest.mark.usefixtures("screened_by")
def test_a_single_feature_of_each_sample_is_enough():
    """A column of 8-bit numbers is what torch multiplies wrongly."""
    features, classes = random(30, 1), random(200, 1, seed=1)
    assert torch.equal(tau_sweep(features, classes, TAUS), reference.tau_sweep(features, classes, TAUS))
    found = ncm_search(features, classes)[1][:, 0]
    assert torch.equal(classes[found].sign(), features.sign())


@pytest.mark.usefixtures("screened_by")
def test_one_sample_may_be_stored_by_columns():
    """Torch multiplies a single row of 8-bit numbers wrongly where it has the strides of a column."""
    columns, classes = random(9, 20), random(110, 9, seed=1)
    for sample in range(20):
        feature = columns.T[sample : sample + 1]
        assert torch.equal(ncm_search(feature, classes)[1], ncm_search(feature.contiguous().clone(), classes)[1])
        assert torch.equal(
            ncm_search(feature, classes)[1], reference.ncm_search(feature, classes, 1, "cosine", None)[1]
        )


@pytest.mark.parametrize("function", [tau_sweep, reference.tau_sweep])
def test_equal_classes_tie_at_every_tau(function):
    """Torch's vectorised power may give the last classes of all another factor, by one bit."""
    features = random(50, 7).abs()
    for number in range(65, 72):
        same = random(1, 7, seed=number).abs().expand(number, -1)
        assert (function(features, same, torch.linspace(0, 3, 31)) == 0).all()


def test_equal_classes_tie_whatever_the_number_of_features():
    """Torch adds up a single row of so many numbers by threads, and so the last of seven in another order."""
    distinct = random(10, 40_000)
    classes = distinct.repeat(7, 1)
    for feature in random(8, 40_000, seed=1):
        assert (tau_sweep(feature[None], classes, torch.tensor([0.0, 1.0])) < 10).all()


@pytest.mark.parametrize("num_classes", [50, 300])
def test_distances_far_from_the_origin_are_those_of_differences(num_classes):
    """At 1e6 from the origin float64 rounds |x|^2 of 512 features by as much as the distances differ."""
    features, means = random(40, 512) + 1e6, random(num_classes, 512, seed=1) + 1e6
    squared = torch.stack([(row.double() - means.double()).square().sum(dim=1) for row in features])
    scores, found = ncm_search(features, means, 3, "euclidean")
    expected = squared.sort(dim=1, stable=True)
    assert torch.equal(found, expected.indices[:, :3])
    torch.testing.assert_close(scores.double(), -expected.values[:, :3].sqrt(), rtol=1e-6, atol=0)


def test_factors_that_would_underflow_are_not_screened(monkeypatch):
    """The one class that scores above 0 does so by 1e-12 times 1e-29, of which float32 holds a few bits."""
    on_processor(monkeypatch, "float32")
    feature = torch.tensor([[1e-12, 0.0]])
    classes = torch.tensor([[-1.0, 0.0]]).repeat(64, 1)
    classes[56:] *= 1e10
    classes[61] *= -1

    def found() -> set[int]:
        taus = torch.linspace(3.8, 4, 40)
        return {int(tau_sweep(feature, classes, tau[None])) for tau in taus}

    assert found() == {61}
    monkeypatch.setattr(sweep, "LEAST_FACTOR", 1e-30)
    with pytest.raises(IndexError):  # not even that one is a candidate
        found()


def test_features_that_no_screen_decides_are_compared_at_the_end_together(monkeypatch):
    monkeypatch.setattr(sweep, "ROWS_OF_A_BLOCK", 10)
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


@pytest.mark.parametrize(
    ("tau", "message"),
    [
        (float("nan"), "taus holds NaN or infinity"),
        (float("inf"), "taus holds NaN or infinity"),
        (500.0, r"taus holds 500, with which class weights are multiplied by .* Choose one nearer to 0"),
        (-1e9, r"taus holds -1e\+09, with which"),
    ],
)
@pytest.mark.parametrize("num_classes", [10, 80])
def test_a_tau_that_float64_cannot_hold_is_refused(tau, message, num_classes):
    with pytest.raises(ValueError, match=message):
        tau_sweep(random(3, 20), random(num_classes, 20, seed=1), torch.tensor([0.5, tau]))


def test_features_with_too_many_candidates_are_searched_more_closely(monkeypatch):
    """All classes within bfloat16's rounding of one another: the first screen leaves everything open."""
    on_processor(monkeypatch, "bfloat16")
    monkeypatch.setattr(search.Search, "most_candidates", 8)
    seen = []
    screened = search.Search._screened

    def watched(self, rows, screen):
        seen.append((type(screen).__name__, len(rows)))
        return screened(self, rows, screen)

    monkeypatch.setattr(search.Search, "_screened", watched)
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
