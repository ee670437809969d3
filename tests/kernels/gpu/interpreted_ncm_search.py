"""The k nearest class means, against float64."""

import pytest
import torch
from torch import Tensor

from ltrsys.kernels.gpu import ncm_search as module
from ltrsys.kernels.gpu.ncm_search import ncm_search
from tests.kernels.gpu.conftest import random

pytestmark = pytest.mark.usefixtures("nan_in_new_tensors")


def exact(features: Tensor, means: Tensor, k: int, metric: str, center: Tensor | None) -> tuple[Tensor, Tensor]:
    moved, means = features.double() - (0.0 if center is None else center.double()), means.double()
    if metric == "euclidean":
        scores = -(moved[:, None] - means[None]).square().sum(dim=2).sqrt()
    else:
        lengths = moved.norm(dim=1)[:, None] * means.norm(dim=1)[None]
        scores = (moved[:, None] * means[None]).sum(dim=2) / torch.where(lengths > 0, lengths, 1.0)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return scores.gather(1, order), order


def assert_exact(features: Tensor, means: Tensor, k: int, metric: str, center: Tensor | None = None) -> None:
    scores, classes = ncm_search(features, means, k, metric, center)
    expected_scores, expected_classes = exact(features, means, k, metric, center)
    assert torch.equal(classes, expected_classes)
    torch.testing.assert_close(scores.double(), expected_scores, rtol=1e-6, atol=1e-7)


def near_ties(num_rows: int, num_means: int, dim: int) -> tuple[Tensor, Tensor]:
    """Return features, and means in two opposite bundles, which are as close to each for all that bfloat16 can tell."""
    base = random(1, dim, seed=1)
    side = torch.tensor([-1.0, 1.0]).repeat(num_means // 2)[:, None]
    return random(num_rows, dim) + base, side * base + 1e-2 * random(num_means, dim, seed=2)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut rows into several blocks."""
    monkeypatch.setattr(module, "ROWS_OF_A_BLOCK", 16)
    monkeypatch.setattr(module, "ALL_CLASSES_ELEMENTS", 1000)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("centered", [False, True])
def test_the_nearest_means_are_found(metric: str, dtype: torch.dtype, centered: bool) -> None:
    features, means = random(19, 37, dtype=dtype) + 1, random(53, 37, seed=1, dtype=dtype)
    assert_exact(features, means, 3, metric, random(37, seed=2) if centered else None)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_means_and_centred_features_far_from_the_origin(metric: str) -> None:
    features, means, center = random(19, 37) + 20, random(150, 37, seed=1) + 5, random(37, seed=2) + 15
    assert_exact(features, means, 2, metric, center)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    ("shape", "k"), [((1, 1, 8), 1), ((5, 3, 2), 3), ((37, 23, 65), 1), ((9, 70, 16), 70)], ids=str
)
def test_any_shape_and_any_number_of_means(metric: str, shape: tuple[int, int, int], k: int) -> None:
    samples, num_classes, dim = shape
    assert_exact(random(samples, dim), random(num_classes, dim, seed=1), k, metric)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_near_ties_that_bfloat16_decides_wrongly_are_decided_exactly(metric: str) -> None:
    features, means = near_ties(20, 100, 32)
    rounded = exact(features.bfloat16(), means.bfloat16(), 3, metric, None)[1]
    assert (rounded != exact(features, means, 3, metric, None)[1]).float().mean() > 0.2
    assert_exact(features, means, 3, metric)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_without_the_bound_screening_would_lose_the_answer(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features, means = near_ties(20, 100, 32)
    monkeypatch.setattr(module, "bounds_of", lambda features, directions: torch.zeros_like(features.rounded.norm_R))
    classes = ncm_search(features, means, 1, metric, None)[1]
    assert not torch.equal(classes, exact(features, means, 1, metric, None)[1])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_screening_leaves_few_rows_to_be_scored_in_full(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crowded = []
    counted = module.undecided_rows
    monkeypatch.setattr(
        module, "undecided_rows", lambda *args, **more: crowded.append(counted(*args, **more)) or crowded[-1]
    )
    # in one direction for the most part, like features that are not negative
    ncm_search(random(30, 128) + 5, random(200, 128, seed=1) + 5, 3, metric, None)
    assert not len(crowded[0])


def test_small_distances_survive_large_coordinates() -> None:
    means = torch.stack([torch.full((64,), 10000.0), torch.arange(64) / 4], dim=1)
    assert_exact(means + torch.tensor([0.0, 0.0625]), means, 2, "euclidean")
    assert_exact(means.clone(), means, 1, "euclidean")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_ties_go_to_the_lower_class(metric: str) -> None:
    features, means = random(6, 9), random(100, 9, seed=1)
    means[50:] = means[:50]
    assert_exact(features, means, 4, metric)
    assert ncm_search(torch.ones(3, 2), torch.ones(90, 2), 5, metric, None)[1].tolist() == [[0, 1, 2, 3, 4]] * 3


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_zero_vectors(metric: str) -> None:
    features, means = random(6, 9), random(100, 9, seed=1)
    features[2] = 0
    means[7] = 0
    assert_exact(features, means, 6, metric)
    assert_exact(features * 0, means, 1, metric)
    assert_exact(features, means * 0, 1, metric)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_very_large_and_very_small_numbers(metric: str, scale: float) -> None:
    features, means = random(6, 9), random(100, 9, seed=1)
    assert_exact(features * scale, means * scale, 3, metric)
    for one, other in ((features, means * scale), (features * scale, means)):
        scores, classes = ncm_search(one, other, 3, metric, None)
        expected_scores, expected_classes = exact(one, other, 3, metric, None)
        torch.testing.assert_close(scores.double(), expected_scores, rtol=1e-6, atol=0)
        # float64 holds no difference between distances to means that are so much nearer to one another
        assert metric == "euclidean" or torch.equal(classes, expected_classes)


def test_no_feature_gives_no_class() -> None:
    scores, classes = ncm_search(torch.empty(0, 3), random(40, 3), 2, "euclidean", None)
    assert scores.shape == classes.shape == (0, 2)
