"""The temperature, against other ways to find it."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from ltrsys.second_stage import temperature
from ltrsys.second_stage.temperature import fit_temperature, probabilities


def drawn(images: int, classes: int, *, scale: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw scores, and labels from the softmax of the scores over `scale`: that is the right temperature."""
    random = np.random.default_rng(seed)
    scores = 3 * random.normal(size=(images, classes)).astype(np.float32) * scale
    chances = softmax(scores.astype(np.float64) / scale, axis=1).cumsum(axis=1)
    labels = (chances < random.uniform(size=(images, 1))).sum(axis=1).clip(max=classes - 1)
    return torch.from_numpy(scores), torch.from_numpy(labels)


def likelihood(scores: torch.Tensor, labels: torch.Tensor, value: float) -> float:
    """Mean negative log-likelihood at a temperature, by scipy."""
    rows = log_softmax(scores.double().numpy() / value, axis=1)
    return -float(rows[np.arange(len(labels)), labels.numpy()].mean())


@pytest.mark.parametrize("scale", [0.01, 1.0, 40.0])
def test_the_temperature_is_where_the_likelihood_is_highest(scale: float) -> None:
    scores, labels = drawn(3000, 7, scale=scale)
    found = fit_temperature(scores, labels)
    assert found == pytest.approx(scale, rel=0.1), "the labels are drawn with this one"
    best = minimize_scalar(
        lambda log: likelihood(scores, labels, math.exp(log)), bounds=(-9, 9), method="bounded", options={"xatol": 1e-9}
    )
    assert found == pytest.approx(math.exp(best.x), rel=1e-5)


@pytest.mark.parametrize("odd", [False, True], ids=["alike", "the first of them unlike all others"])
def test_of_many_images_some_are_looked_at_first_and_all_decide(odd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = drawn(6000, 7, scale=1.0)
    if odd:
        scores[:: temperature._EVERY] *= 10
    found, rows = [], []
    mean = temperature._mean
    monkeypatch.setattr(temperature, "_mean", lambda part, value: rows.append(len(part)) or mean(part, value))
    for many in (6001, temperature._MANY):
        monkeypatch.setattr(temperature, "_MANY", many)
        rows.clear()
        found.append((fit_temperature(scores, labels), sum(rows)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-9)
    assert odd or found[1][1] < 0.8 * found[0][1], "most of it is found on a part"


def test_two_classes_by_hand() -> None:
    # three of four right, each by a margin of 1: the best p of the better class is 3/4, at 1/T = log 3
    scores = torch.tensor([[1.0, 0.0]] * 4)
    assert fit_temperature(scores, torch.tensor([0, 0, 0, 1])) == pytest.approx(1 / math.log(3))


def test_probabilities_are_float64_and_those_of_scipy() -> None:
    scores, _ = drawn(20, 5, scale=1.0)
    scores[:, 3] = -torch.inf
    found = probabilities(scores, 0.7)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), softmax(scores.double().numpy() / 0.7, axis=1), rtol=1e-12)
    assert (found[:, 3] == 0).all()


def test_the_order_of_classes_and_images_changes_nothing() -> None:
    scores, labels = drawn(500, 9, scale=2.0)
    random = np.random.default_rng(1)
    classes, images = torch.from_numpy(random.permutation(9)), torch.from_numpy(random.permutation(500))
    moved = fit_temperature(scores[:, classes][images], classes.argsort()[labels][images])
    assert moved == pytest.approx(fit_temperature(scores, labels), rel=1e-9)


def test_an_image_of_a_class_that_is_never_predicted_says_nothing() -> None:
    scores, labels = drawn(500, 6, scale=1.5)
    without = fit_temperature(scores[labels != 4], labels[labels != 4])
    scores[:, 4] = -torch.inf
    found = fit_temperature(scores, labels)
    assert math.isfinite(found)
    assert found == fit_temperature(scores[labels != 4], labels[labels != 4])
    assert found != without, "it is no alternative to the others either"
    assert fit_temperature(scores[labels == 4], labels[labels == 4]) == 1.0


@pytest.mark.parametrize("images", [1, 9, 200])
def test_where_all_are_right_the_confidence_is_the_rule_of_succession(images: int) -> None:
    scores = torch.rand((images, 5), generator=torch.Generator().manual_seed(0))
    found = fit_temperature(scores, scores.argmax(dim=1))
    mean = probabilities(scores, found).amax(dim=1).mean()
    assert float(mean) == pytest.approx((images + 1) / (images + 2))


def test_scores_that_say_nothing_have_no_temperature() -> None:
    assert fit_temperature(torch.zeros(8, 1), torch.zeros(8, dtype=torch.int64)) == 1.0
    assert fit_temperature(torch.full((8, 4), 3.0), torch.arange(8) % 4) == 1.0
    assert fit_temperature(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)) == 1.0


def test_scores_that_are_worse_than_chance_come_to_equal_probabilities() -> None:
    scores = torch.eye(4).repeat(3, 1)
    found = fit_temperature(scores, (torch.arange(12) + 1) % 4)
    np.testing.assert_allclose(probabilities(scores, found).numpy(), 0.25, atol=1e-3)


def test_it_does_not_depend_on_how_many_rows_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = drawn(300, 6, scale=1.0)
    at_once = fit_temperature(scores, labels)
    monkeypatch.setattr(temperature, "_NUMBERS_AT_ONCE", 7 * 6)
    assert fit_temperature(scores, labels) == pytest.approx(at_once, rel=1e-9)
