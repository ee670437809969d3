from dataclasses import replace

import numpy as np
import pytest
import torch

from ltrsys.training.losses.oltr_centroids import OLTRCentroids
from ltrsys.training.objective import Objective
from tests.training.losses.cases import context, objective, outputs


@pytest.mark.parametrize("margin", [10.0, 1e3])
def test_it_is_the_distance_to_the_own_centroid_and_what_lacks_to_the_others(margin):
    made = outputs()
    minimised = objective("oltr_centroids", weight=0.3, repel=0.2, margin=margin)
    x, labels = made.features_BD.detach().numpy(), made.labels_B.numpy()
    squared = ((x[:, None] - minimised.state()["centroids"].numpy()) ** 2).sum(axis=2)
    others = np.array([np.delete(row, label).mean() for row, label in zip(squared, labels, strict=True)])
    own = squared[np.arange(len(x)), labels]
    expected = 0.3 * (own / 2 + 0.2 * np.maximum(0, margin - others)).mean()
    found = minimised(made) - objective("cross_entropy")(made)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-9)


def test_a_step_against_the_gradient_brings_the_centroid_of_a_class_to_its_features():
    made = outputs()
    minimised = objective("oltr_centroids", weight=1.0, repel=0.0)
    minimised(made).backward()
    centroids = minimised.module.centroids
    means = np.stack([made.features_BD.detach().numpy()[made.labels_B.numpy() == c].mean(axis=0) for c in range(4)])
    away = centroids.detach().numpy()[:4] - means
    counts = np.bincount(made.labels_B.numpy(), minlength=4)[:, None]
    np.testing.assert_allclose(centroids.grad.numpy()[:4], away * counts / 9, rtol=1e-9)
    assert not centroids.grad[4].any(), "no image of it is in the batch"


def test_the_centroids_are_the_same_for_the_same_seed():
    one, other = (objective("oltr_centroids").state()["centroids"] for _ in range(2))
    assert one.equal(other)
    assert one.shape == (5, 6)


def test_the_gradient_of_the_centroids_is_that_of_their_values():
    made = outputs()
    minimised = objective("oltr_centroids", weight=0.3, repel=0.2, margin=1e3)

    def value(centroids):
        return torch.func.functional_call(minimised.module, {"centroids": centroids}, (made,))

    assert torch.autograd.gradcheck(value, minimised.state()["centroids"].clone().requires_grad_())


def test_the_centroids_of_a_head_are_learned_in_the_place_of_its_own():
    made, alone = outputs(), objective("oltr_centroids", weight=0.3, repel=0.2, margin=1e3)
    head = torch.nn.Parameter(alone.state()["centroids"].clone())
    loss = OLTRCentroids(weight=0.3, repel=0.2, margin=1e3)
    shared = Objective(loss, replace(context(), centroids=head))
    assert (shared.module, shared.state()) == (None, {})  # the network trains and saves them
    assert torch.equal(shared(made), alone(made))
    shared(made).backward()
    alone(made).backward()
    assert torch.equal(head.grad, alone.module.centroids.grad)
