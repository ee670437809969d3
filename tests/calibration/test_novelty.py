"""Scores of what is unlike the known classes, against numpy."""

import numpy as np
import torch
from scipy.special import logsumexp

from ltrsys.calibration.novelty import distance_to_nearest, energy, leave_one_out_distance, share_less_usual

RANDOM = np.random.default_rng(0)


def test_energy_is_that_of_scipy_and_never_predicted_classes_have_no_part_in_it() -> None:
    scores = torch.from_numpy(RANDOM.normal(size=(30, 6)).astype(np.float32))
    expected = -0.7 * logsumexp(scores.double().numpy() / 0.7, axis=1)
    np.testing.assert_allclose(energy(scores, 0.7).numpy(), expected, rtol=1e-12)
    more = torch.cat([scores, torch.full((30, 1), -torch.inf)], dim=1)
    assert torch.equal(energy(more, 0.7), energy(scores, 0.7))


def test_the_distance_is_to_the_nearest_mean() -> None:
    features, means = (RANDOM.normal(size=(count, 5)).astype(np.float32) for count in (40, 7))
    expected = np.linalg.norm(features[:, None].astype(float) - means[None], axis=2).min(axis=1)
    found = distance_to_nearest(torch.from_numpy(features), torch.from_numpy(means))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_a_training_image_is_measured_against_means_without_it() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 4, 4, 4, 4])  # class 3 has none, class 2 one
    features = RANDOM.normal(size=(10, 3)).astype(np.float32)
    means = np.stack([features[labels == c].mean(axis=0) if (labels == c).any() else np.zeros(3) for c in range(5)])
    found = leave_one_out_distance(
        torch.from_numpy(features),
        torch.from_numpy(labels),
        torch.from_numpy(means.astype(np.float32)),
        torch.from_numpy(np.bincount(labels, minlength=5)),
    )
    for row in range(10):
        others = np.arange(10) != row
        left = [features[others & (labels == c)].mean(axis=0) for c in range(5) if (others & (labels == c)).any()]
        nearest = min(np.linalg.norm(features[row].astype(float) - mean) for mean in left)
        np.testing.assert_allclose(found[row], nearest, rtol=1e-5)


def test_one_class_alone_has_its_own_distance() -> None:
    features = torch.tensor([[0.0], [2.0]])
    found = leave_one_out_distance(
        features, torch.zeros(2, dtype=torch.int64), torch.tensor([[1.0]]), torch.tensor([2])
    )
    assert found.tolist() == [2.0, 2.0]


def test_a_score_is_told_as_the_share_of_reference_images_that_are_less_usual() -> None:
    reference = torch.tensor([1.0, 2.0, 2.0, 3.0], dtype=torch.float64)
    values = torch.tensor([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 9.0], dtype=torch.float64)
    expected = [float((reference >= value).double().mean()) for value in values]
    assert share_less_usual(values, reference).tolist() == expected
    assert share_less_usual(values, torch.zeros(0)).tolist() == [0.0] * 7
