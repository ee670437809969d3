"""`ncm_search` gives the answer of exact arithmetic for any k, metric and layout."""

from functools import cache

import pytest
import torch

from ltrsys.kernels import ncm_search, reference
from tests.kernels.cpu.conftest import SHAPES, random


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


def test_small_distances_survive_large_coordinates():
    means = torch.stack([torch.full((64,), 10000.0), torch.arange(64) / 4], dim=1)
    features = means + torch.tensor([0.0, 0.0625])
    scores, classes = ncm_search(features, means, k=2, metric="euclidean")
    assert classes[:, 0].tolist() == list(range(64))
    torch.testing.assert_close(scores[:-1], torch.tensor([[-0.0625, -0.1875]]).expand(63, 2), rtol=1e-6, atol=0)


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


@pytest.mark.parametrize("num_classes", [50, 300])
def test_distances_far_from_the_origin_are_those_of_differences(num_classes):
    """At 1e6 from the origin float64 rounds |x|^2 of 512 features by as much as the distances differ."""
    features, means = random(40, 512) + 1e6, random(num_classes, 512, seed=1) + 1e6
    squared = torch.stack([(row.double() - means.double()).square().sum(dim=1) for row in features])
    scores, found = ncm_search(features, means, 3, "euclidean")
    expected = squared.sort(dim=1, stable=True)
    assert torch.equal(found, expected.indices[:, :3])
    torch.testing.assert_close(scores.double(), -expected.values[:, :3].sqrt(), rtol=1e-6, atol=0)
