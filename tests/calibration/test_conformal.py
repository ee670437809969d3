"""Prediction sets: by hand, and their coverage on exchangeable images."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import betabinom

from ltrsys.calibration.conformal import ConformalScores, prevalence_adjusted
from ltrsys.errors import UsageError


def test_the_threshold_by_hand() -> None:
    scores = ConformalScores(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], dtype=torch.float64))
    assert scores.threshold(0.9) == 0.1, "ceil(10 x 0.9) = 9: the ninth highest of nine"
    assert scores.threshold(0.5) == 0.5
    assert scores.threshold(0.41) == 0.5
    assert scores.threshold(0.91) == -math.inf, "of nine images none shows that"
    found = scores.sets(torch.tensor([[0.5, 0.3, 0.2], [0.34, 0.33, 0.33]]), 0.5)
    assert found.tolist() == [[True, False, False], [False, False, False]]


def test_without_enough_images_every_class_is_in_the_set_also_those_that_are_never_predicted() -> None:
    none = ConformalScores.of(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert none.sets(torch.tensor([[1.0, 0.0, 0.0]]), 0.9).all()


def test_an_image_of_a_class_that_is_never_predicted_counts_as_one_that_is_not_covered() -> None:
    probabilities = torch.tensor([[0.9, 0.1, 0.0]]).repeat(20, 1)
    labels = torch.tensor([0] * 17 + [2] * 3)
    scores = ConformalScores.of(probabilities, labels)
    assert scores.sets(probabilities, 0.75).tolist()[0] == [True, False, False]
    assert scores.sets(probabilities, 0.9).all(), "17 of 20 are not enough: only all classes cover that"


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, 90.0, math.nan])
def test_a_coverage_that_is_no_probability_is_refused(coverage: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1, such as"):
        ConformalScores(torch.rand(5)).threshold(coverage)


@pytest.mark.parametrize("adjusted", [False, True])
@pytest.mark.parametrize(("images", "coverage"), [(99, 0.9), (300, 0.8), (57, 0.95)])
def test_coverage_of_exchangeable_images_is_beta_binomial(adjusted: bool, images: int, coverage: float) -> None:
    """n calibration images and m new ones: so many new ones are covered as a beta-binomial number says, exactly."""
    random = np.random.default_rng(images)
    trials, new, classes = 200, 100, 6
    shares = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.04, 0.01], dtype=torch.float64)
    missed = math.floor((images + 1) * (1 - coverage) + 1e-9)
    covered = betabinom(new, images + 1 - missed, missed)
    counts = np.empty(trials)
    for trial in range(trials):
        logits = torch.from_numpy(random.normal(size=(images + new, classes))) + shares.log()
        labels = torch.from_numpy(random.choice(classes, size=images + new, p=shares.numpy()))
        logits[torch.arange(images + new), labels] += 1.5
        conformity = logits.softmax(dim=1)
        if adjusted:
            conformity = prevalence_adjusted(conformity, shares)
        sets = ConformalScores.of(conformity[:images], labels[:images]).sets(conformity[images:], coverage)
        counts[trial] = int(sets.gather(1, labels[images:, None]).sum())
    low, high = covered.ppf([1e-6 / trials, 1 - 1e-6 / trials])
    assert low <= counts.min()
    assert counts.max() <= high
    spread = covered.std() / math.sqrt(trials)
    assert abs(counts.mean() - covered.mean()) < 5 * spread
    assert abs(counts.var(ddof=1) / covered.var() - 1) < 5 * math.sqrt(2 / trials) + 0.2


def test_adjusted_sets_hold_rare_classes_more_often() -> None:
    """Images as rare as pi says, and right probabilities: the mean over the classes of coverages rises."""
    random = np.random.default_rng(0)
    shares = torch.tensor([0.7, 0.25, 0.05], dtype=torch.float64)
    labels = torch.from_numpy(random.choice(3, size=40_000, p=shares.numpy()))
    seen = torch.from_numpy(random.normal(size=40_000)) + labels
    likelihoods = torch.stack([-((seen - mean) ** 2) / 2 for mean in range(3)], dim=1)
    posterior = (likelihoods + shares.log()).softmax(dim=1)
    by_class = {}
    for name, conformity in (("plain", posterior), ("adjusted", prevalence_adjusted(posterior, shares))):
        sets = ConformalScores.of(conformity[:20_000], labels[:20_000]).sets(conformity[20_000:], 0.9)
        covered = sets.gather(1, labels[20_000:, None])[:, 0]
        by_class[name] = [float(covered[labels[20_000:] == own].double().mean()) for own in range(3)]
        assert float(covered.double().mean()) == pytest.approx(0.9, abs=0.01)
    assert by_class["adjusted"][2] > by_class["plain"][2] + 0.3
    assert np.mean(by_class["adjusted"]) > np.mean(by_class["plain"])


def test_the_order_of_classes_changes_no_set() -> None:
    random = torch.Generator().manual_seed(0)
    conformity, labels = torch.rand((50, 4), generator=random), torch.arange(50) % 4
    order = torch.tensor([2, 0, 3, 1])
    sets = ConformalScores.of(conformity, labels).sets(conformity, 0.8)
    moved = ConformalScores.of(conformity[:, order], order.argsort()[labels]).sets(conformity[:, order], 0.8)
    assert torch.equal(moved, sets[:, order])


def test_classes_that_are_as_probable_are_in_a_set_together() -> None:
    scores = ConformalScores.of(torch.full((30, 3), 1 / 3, dtype=torch.float64), torch.arange(30) % 3)
    assert scores.sets(torch.full((2, 3), 1 / 3, dtype=torch.float64), 0.9).all()
