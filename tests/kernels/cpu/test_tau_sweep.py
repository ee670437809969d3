"""`tau_sweep` gives the answer of exact arithmetic at every tau."""

from functools import cache

import pytest
import torch

from ltrsys.kernels import reference, tau_sweep
from ltrsys.kernels.cpu import tau_sweep as module
from tests.kernels.cpu.conftest import SHAPES, TAUS, on_processor, random


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
    monkeypatch.setattr(module, "LEAST_FACTOR", 1e-30)
    with pytest.raises(IndexError):  # not even that one is a candidate
        found()


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
