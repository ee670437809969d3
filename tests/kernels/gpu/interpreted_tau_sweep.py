"""The arg max for each tau, against float64."""

import pytest
import torch
from torch import Tensor

from ltrsys.kernels.gpu import tau_sweep as module
from ltrsys.kernels.gpu.tau_sweep import CAPACITY, tau_sweep
from tests.kernels.gpu.conftest import random

pytestmark = pytest.mark.usefixtures("nan_in_new_tensors")

TAUS = torch.arange(0, 2.01, 0.5, dtype=torch.float64)


def factors_of(weight: Tensor) -> Tensor:
    norm = weight.double().norm(dim=1)
    return torch.where(norm > 0, norm, 1.0) ** -TAUS[:, None]


def exact(features: Tensor, weight: Tensor) -> Tensor:
    scores = features.double() @ weight.double().T
    return (scores * factors_of(weight)[:, None]).argmax(dim=2)


def long_tailed(num_classes: int, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return weights whose norms differ by a factor of ten, as those of frequent and rare classes do."""
    return (random(num_classes, dim, seed=1) * torch.logspace(-0.5, 0.5, num_classes)[:, None]).to(dtype)


def near_ties(num_rows: int, num_classes: int, dim: int) -> tuple[Tensor, Tensor]:
    """Return features for each of which many classes score the same but for what bfloat16 rounds away."""
    weight = random(1, dim, seed=1) + 1e-3 * random(num_classes, dim, seed=2)
    return random(num_rows, dim) + weight[:1], weight


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut rows into several blocks."""
    monkeypatch.setattr(module, "ROWS_OF_A_BLOCK", 40)
    monkeypatch.setattr(module, "ALL_CLASSES_ELEMENTS", 700)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("shape", [(1, 1, 8), (5, 3, 2), (37, 23, 17), (45, 70, 70)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_each_tau_has_its_arg_max(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    samples, classes, dim = shape
    features, weight = random(samples, dim, dtype=dtype), long_tailed(classes, dim, dtype)
    assert torch.equal(tau_sweep(features, weight, factors_of(weight)), exact(features, weight))


def test_near_ties_that_bfloat16_decides_wrongly_are_decided_exactly() -> None:
    features, weight = near_ties(40, 100, 64)
    rounded = exact(features.bfloat16(), weight.bfloat16())
    expected = exact(features, weight)
    assert (rounded != expected).float().mean() > 0.5
    assert torch.equal(tau_sweep(features, weight, factors_of(weight)), expected)


def test_without_the_bound_screening_would_lose_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    features, weight = near_ties(40, 100, 64)
    monkeypatch.setattr(module, "bounds_of", lambda features, directions: torch.zeros_like(features.rounded.norm_R))
    assert not torch.equal(tau_sweep(features, weight, factors_of(weight)), exact(features, weight))


def test_few_rows_have_more_candidates_than_places(monkeypatch: pytest.MonkeyPatch) -> None:
    crowded = []
    counted = module.undecided_rows
    monkeypatch.setattr(
        module, "undecided_rows", lambda *args, **more: crowded.append(counted(*args, **more)) or crowded[-1]
    )
    features, weight = random(64, 128), long_tailed(200, 128)
    tau_sweep(features, weight, factors_of(weight))
    assert not len(crowded[0])


def test_more_candidates_than_places_are_scored_in_full() -> None:
    features, weight = near_ties(6, CAPACITY + 40, 16)
    features[3] = random(16, seed=5)
    assert torch.equal(tau_sweep(features, weight, factors_of(weight)), exact(features, weight))


def test_a_zero_feature_and_equal_classes_take_the_lowest_id() -> None:
    features, weight = random(7, 12), random(90, 12, seed=1)
    features[4] = 0
    weight[3] = weight[80]
    weight[10] = weight[80] * 2
    weight[5] = 0
    features[2] = weight[80]
    found = tau_sweep(features, weight, factors_of(weight))
    assert torch.equal(found, exact(features, weight))
    assert (found[:, 4] == 0).all()
    assert found[TAUS == 0, 2].tolist() == [10]
    assert found[TAUS == 1, 2].tolist() == [3]


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e30, 1e36])
def test_very_large_and_very_small_numbers(scale: float) -> None:
    features, weight = random(20, 12), long_tailed(70, 12)
    expected = exact(features, weight)
    assert torch.equal(tau_sweep(features * scale, weight, factors_of(weight)), exact(features * scale, weight))
    if scale > 1e-38:  # where bits are not lost
        other = weight * scale
        assert torch.equal(tau_sweep(features, other, factors_of(other)), exact(features, other))
        assert torch.equal(exact(features * 2.0**90, weight), expected)


def test_rows_of_very_different_size() -> None:
    features = random(20, 12) * torch.logspace(-30, 30, 20)[:, None]
    weight = random(70, 12, seed=1) * torch.logspace(-12, 12, 70)[:, None]
    assert torch.equal(tau_sweep(features, weight, factors_of(weight)), exact(features, weight))


def test_no_feature_gives_no_class() -> None:
    weight = long_tailed(5, 3)
    assert tau_sweep(torch.empty(0, 3), weight, factors_of(weight)).shape == (len(TAUS), 0)
