"""Weights by class, from an epoch on; mixed labels."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ltrsys.training.losses.base import LOSSES, LossContext, Outputs
from ltrsys.training.losses.cross_entropy import CrossEntropy
from ltrsys.training.objective import Mixed, Objective

CPU = torch.device("cpu")
COUNTS = np.array([100, 10, 1, 0])


def outputs(size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, 4, generator=generator, requires_grad=True)
    return Outputs(logits, torch.zeros(size, 2), torch.arange(size) % 3)


def objective(kind="cross_entropy", **settings):
    return Objective(LOSSES.get(kind)(**settings), LossContext(COUNTS, 0.0, CPU, 2))


def test_weights_are_inverse_effective_numbers_with_mean_one_over_the_classes_that_have_images():
    """beta .5: (1-.5)/(1-.5^n) is .5 for many, and 1 for one image."""
    weights = CrossEntropy(reweight="effective_number", beta=0.5).class_weights(np.array([1000, 1, 0]))
    np.testing.assert_allclose(weights, np.array([0.5, 1.0, 0.0]) / 0.75)


@pytest.mark.parametrize(("beta", "expected"), [(0.0, [1, 1, 1, 0]), (1 - 1e-9, [3 / 111, 30 / 111, 300 / 111, 0])])
def test_beta_reaches_from_all_alike_to_the_inverse_counts(beta, expected):
    weights = CrossEntropy(reweight="effective_number", beta=beta).class_weights(COUNTS)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_equally_many_images_are_weighted_alike():
    weights = CrossEntropy(reweight="effective_number", beta=0.999).class_weights(np.full(3, 7))
    np.testing.assert_allclose(weights, [1, 1, 1])


def test_weights_begin_with_their_epoch():
    made, deferred = outputs(), objective(reweight="effective_number", from_epoch=2)
    plain, weighted = objective()(made).item(), objective(reweight="effective_number")(made).item()
    assert plain != weighted
    found = []
    for epoch in (0, 1, 2, 3, 1):  # a run may begin at any
        deferred.begin_epoch(epoch)
        found.append(deferred(made).item())
    assert found == [plain, plain, weighted, weighted, plain]


def test_the_size_of_the_micro_batches_does_not_matter():
    made, weighted = outputs(), objective(reweight="effective_number")
    halves = [
        weighted(Outputs(made.logits_BC[part], made.features_BD[part], made.labels_B[part])).item()
        for part in (slice(0, 4), slice(4, 8))
    ]
    assert weighted(made).item() == pytest.approx(np.mean(halves), rel=1e-6)


def test_mixed_labels_share_the_loss_and_each_has_the_weight_of_its_class():
    made = outputs()
    mixed = Mixed(made.labels_B.roll(1), torch.linspace(0, 1, 8))
    by_sample = torch.nn.functional.cross_entropy
    weights = torch.from_numpy(CrossEntropy(reweight="effective_number").class_weights(COUNTS)).float()
    own, other = (
        weights[labels] * by_sample(made.logits_BC, labels, reduction="none")
        for labels in (made.labels_B, mixed.labels_B)
    )
    expected = (mixed.share_B * own + (1 - mixed.share_B) * other).mean()
    torch.testing.assert_close(objective(reweight="effective_number")(made, mixed), expected)


def test_building_one_leaves_the_random_numbers_alone():
    before = torch.get_rng_state()
    learned = objective("oltr_centroids")
    assert torch.equal(torch.get_rng_state(), before)
    assert list(learned.state()) == ["centroids"]
    assert objective().state() == {}


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("cross_entropy", {"reweight": "effective_number", "beta": 1.0}, "beta\n.*less than 1"),
        ("cross_entropy", {"reweight": "effective_number", "beta": -0.1}, "beta\n.*greater than or equal to 0"),
        ("cross_entropy", {"from_epoch": 3}, "from_epoch=3 has nothing to begin"),
        ("focal", {"gamma": -1.0}, "gamma\n.*greater than or equal to 0"),
        ("cb_focal", {"per_class": "both"}, "per_class\n.*'softmax' or 'sigmoid'"),
        ("label_aware_smoothing", {"head": 1.0}, "head\n.*less than 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(kind, settings, message):
    with pytest.raises(ValidationError, match=message):
        LOSSES.get(kind)(**settings)
