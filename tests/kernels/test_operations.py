"""The four operations, as they are called, against the formulas they stand for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrsys.kernels import class_sums, ncm_search, reference, tau_logits, tau_sweep, top_classes

SHAPES = [(1, 1, 8), (5, 3, 2), (37, 23, 17), (64, 59, 123)]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut everything into blocks of a few rows."""
    monkeypatch.setattr(reference, "BLOCK_ELEMENTS", 64)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0, 2.0])
def test_tau_logits_is_equation_3(shape: tuple[int, int, int], tau: float) -> None:
    samples, classes, dim = shape
    features, weight = random(samples, dim).double(), random(classes, dim, seed=1).double()
    divided = weight / weight.norm(dim=1, keepdim=True) ** tau
    torch.testing.assert_close(tau_logits(features, weight, tau), features @ divided.T)


def test_tau_zero_is_the_plain_product() -> None:
    features, weight = random(9, 6), random(4, 6, seed=1)
    assert torch.equal(tau_logits(features, weight, 0.0), features @ weight.T)


def test_factors_beyond_float32_leave_logits_that_it_can_hold() -> None:
    """|w|^-2 is 1e39 to 1e-40, the logits are not: infinity, times a feature of zeros, would be NaN."""
    features = torch.cat([random(5, 6), torch.zeros(1, 6)])
    weight = random(4, 6, seed=1) * torch.tensor([[1e-20], [3e-20], [1.0], [1e20]])
    narrow = [values.clone().requires_grad_() for values in (features, weight, torch.tensor(2.0))]
    wide = [values.detach().double().requires_grad_() for values in narrow]
    logits, expected = tau_logits(*narrow), tau_logits(*wide)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected.float(), rtol=1e-6, atol=0)
    for result in (logits, expected):
        result.backward(1e-12 * random(*logits.shape, seed=2).to(result.dtype))
    for one, other in zip(narrow, wide, strict=True):
        torch.testing.assert_close(one.grad, other.grad.float(), rtol=1e-5, atol=0)


def test_scale_multiplies_each_class() -> None:
    features, weight, scale = random(9, 6), random(4, 6, seed=1), torch.tensor([0.5, 1.0, 2.0, -1.0])
    torch.testing.assert_close(tau_logits(features, weight, 0.0, scale), features @ (scale[:, None] * weight).T)


def test_tau_logits_differentiates_in_everything() -> None:
    features, weight, scale = random(5, 4).double(), random(3, 4, seed=1).double(), random(3, seed=2).double()
    tau = torch.tensor(0.7, dtype=torch.float64)
    inputs = [values.requires_grad_() for values in (features, weight, tau, scale)]
    assert torch.autograd.gradcheck(tau_logits, inputs)


def test_a_class_without_weights_has_the_logit_zero_and_a_finite_gradient() -> None:
    weight = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    tau = torch.tensor(1.0, requires_grad=True)
    logits = tau_logits(torch.ones(1, 2), weight, tau)
    torch.testing.assert_close(logits.detach(), torch.tensor([[0.0, 1.4]]))
    logits.sum().backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    assert tau.grad is not None
    assert tau.grad.isfinite()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tau_sweep_is_the_arg_max_at_each_tau(shape: tuple[int, int, int]) -> None:
    samples, classes, dim = shape
    features, weight = random(samples, dim), random(classes, dim, seed=1)
    taus = torch.tensor([0.0, 0.5, 1.0, 1.7])
    expected = torch.stack([tau_logits(features.double(), weight, float(tau)).argmax(dim=1) for tau in taus])
    assert torch.equal(tau_sweep(features, weight, taus), expected)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0), st.integers(0, 1000))
def test_full_normalisation_forgets_the_length_of_each_weight(first: float, second: float, seed: int) -> None:
    features, weight = random(20, 6, seed=seed).double(), random(2, 6, seed=seed + 1).double()
    longer = weight * torch.tensor([[first], [second]], dtype=torch.float64)
    torch.testing.assert_close(tau_logits(features, longer, 1.0), tau_logits(features, weight, 1.0))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("centred", [False, True])
def test_ncm_search_ranks_by_distance_and_by_angle(shape: tuple[int, int, int], centred: bool) -> None:
    samples, classes, dim = shape
    features, means = random(samples, dim), random(classes, dim, seed=1)
    center = random(dim, seed=2) if centred else None
    moved = (features - center if center is not None else features).double().numpy()
    exact_means = means.double().numpy()
    distance = -np.linalg.norm(moved[:, None] - exact_means[None], axis=2)
    lengths = np.linalg.norm(moved, axis=1)[:, None] * np.linalg.norm(exact_means, axis=1)[None]
    k = min(3, classes)
    for metric, expected in (("euclidean", distance), ("cosine", moved @ exact_means.T / lengths)):
        scores, found = ncm_search(features, means, k=k, metric=metric, center=center)
        order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(found.numpy(), order)
        np.testing.assert_allclose(scores.numpy(), np.take_along_axis(expected, order, axis=1), rtol=1e-5, atol=1e-6)
        assert scores.dtype == torch.float32


def test_cosine_ignores_lengths_and_distance_does_not() -> None:
    features, means = random(50, 6), random(7, 6, seed=1)
    longer = means * torch.linspace(0.1, 10, 7)[:, None]
    assert torch.equal(ncm_search(features, means)[1], ncm_search(features * 5, longer)[1])
    before, after = (ncm_search(features, values, metric="euclidean")[1] for values in (means, longer))
    assert not torch.equal(before, after)


def test_small_distances_survive_large_coordinates() -> None:
    # 64 means a quarter apart, far from the origin: ||x||² - 2xm + ||m||² is off by units in float32
    means = torch.stack([torch.full((64,), 10000.0), torch.arange(64) / 4], dim=1)
    features = means + torch.tensor([0.0, 0.0625])
    scores, classes = ncm_search(features, means, k=2, metric="euclidean")
    assert classes[:, 0].tolist() == list(range(64))
    torch.testing.assert_close(scores[:-1], torch.tensor([[-0.0625, -0.1875]]).expand(63, 2), rtol=1e-4, atol=0)


def test_ties_go_to_the_lower_class() -> None:
    features, same = torch.ones(3, 2), torch.ones(5, 2)
    assert (tau_sweep(features, same, torch.tensor([0.0, 1.0])) == 0).all()
    for metric in ("cosine", "euclidean"):
        assert ncm_search(features, same, k=5, metric=metric)[1].tolist() == [[0, 1, 2, 3, 4]] * 3
    assert top_classes(torch.tensor([[1.0, 3.0, 3.0, 1.0]]), 4).tolist() == [[1, 2, 0, 3]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_classes_in_the_same_direction_tie_in_the_cosine(dtype: torch.dtype) -> None:
    """Powers of two leave the direction as it is, but a matrix product may round it by where a class stands."""
    for seed in range(20):
        directions = random(20, 64, seed=seed).to(dtype)
        means = torch.cat([directions * 2.0**power for power in (0, 3, -2, 1)])
        assert (ncm_search(random(9, 64, seed=seed + 100).to(dtype), means)[1] < 20).all()


@pytest.mark.parametrize("dim", [16, 256])
def test_equal_classes_tie_beside_their_opposites(dim: int) -> None:
    for seed in range(10):
        classes = random(5, dim, seed=seed).double()
        features = -random(9, 5, seed=seed + 100).double() @ classes
        classes = torch.cat([classes, -classes, -classes, -classes])
        assert (tau_sweep(features, classes, torch.tensor([0.0, 1.0])) < 10).all()
        assert (ncm_search(features, classes)[1] < 10).all()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("centred", [False, True])
def test_class_sums_add_up_each_class(normalize: bool, centred: bool) -> None:
    features, labels = random(101, 13), torch.arange(101) ** 2 % 7
    center = random(13, seed=2) if centred else None
    sums, counts = class_sums(features, labels, 9, normalize, center)
    moved = features.double() - (center.double() if center is not None else 0.0)
    if normalize:
        moved = moved / moved.norm(dim=1, keepdim=True)
    for class_id in range(9):
        torch.testing.assert_close(sums[class_id], moved[labels == class_id].sum(dim=0).float())
        assert counts[class_id] == (labels == class_id).sum()


def test_class_sums_have_the_same_bits_at_every_run() -> None:
    features, labels = random(5000, 32) * 1e3, torch.randint(0, 11, (5000,), generator=torch.Generator().manual_seed(3))
    first, again = (class_sums(features, labels, 11)[0] for _ in range(2))
    assert torch.equal(first, again)


def test_a_zero_feature_stays_zero_when_normalised() -> None:
    sums, _ = class_sums(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), 1, normalize=True)
    assert torch.equal(sums, torch.zeros(1, 3))


def test_half_precision_is_widened_before_it_is_added() -> None:
    features = torch.full((3000, 1), 1.0, dtype=torch.bfloat16)  # bfloat16 cannot count beyond 256
    sums, _ = class_sums(features, torch.zeros(3000, dtype=torch.int64), 1)
    assert sums.item() == 3000
    assert sums.dtype == torch.float32


def test_nothing_in_gives_nothing_out() -> None:
    none, weight = torch.empty(0, 3), random(2, 3)
    assert tau_sweep(none, weight, torch.tensor([0.0])).shape == (1, 0)
    assert ncm_search(none, weight, k=2)[1].shape == (0, 2)
    assert class_sums(none, torch.empty(0, dtype=torch.int64), 2)[1].tolist() == [0, 0]
