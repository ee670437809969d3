from itertools import combinations

import numpy as np
import pytest
import torch

from ltrsys.training.losses.base import LOSSES, Outputs
from ltrsys.training.losses.range import harmonic_ranges, smallest_centre_distance
from tests.training.losses.cases import context, objective, outputs


def by_definition(features, labels, k):
    """Return the sum over the classes of the harmonic means, and the smallest squared distance of two centres."""
    intra, centres = 0.0, []
    for label in sorted(set(labels)):
        own = features[labels == label]
        centres.append(own.mean(axis=0))
        largest = sorted((np.linalg.norm(one - other) for one, other in combinations(own, 2)), reverse=True)[:k]
        if largest:
            intra += len(largest) / sum(1 / distance for distance in largest)
    return intra, min(np.sum((one - other) ** 2) for one, other in combinations(centres, 2))


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_as_the_paper_defines_it_whatever_the_classes(k, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(17, 6, generator=generator)
    labels = torch.randint(0, 5, (17,), generator=generator)
    intra, inter = by_definition(features.numpy(), labels.numpy(), k)
    assert float(harmonic_ranges(features, labels, k).sum()) == pytest.approx(intra, rel=1e-9)
    assert float(smallest_centre_distance(features, labels)) == pytest.approx(inter, rel=1e-9)
    loss = LOSSES.get("range")(k=k, intra_weight=0.5, inter_weight=2.0, margin=7.0)
    term = loss.build_batch_term(context())(Outputs(torch.zeros(17, 5), features, labels))
    assert float(term) == pytest.approx(0.5 * intra + 2 * max(0, 7 - inter), rel=1e-9)


def test_by_hand():
    """One class at 0, 3 and 4 on a line: distances 4, 3, 1; its two largest have the harmonic mean 2/(1/4+1/3)."""
    features = torch.tensor([[0.0], [3.0], [4.0], [10.0]])
    labels = torch.tensor([2, 2, 2, 0])
    assert harmonic_ranges(features, labels, 2).tolist() == pytest.approx([2 / (1 / 4 + 1 / 3), 0, 0, 0])
    assert float(smallest_centre_distance(features, labels)) == pytest.approx((10 - 7 / 3) ** 2)


def test_one_class_has_no_other_centre_and_single_images_no_range():
    made = outputs(size=4)
    alone = Outputs(made.logits_BC, made.features_BD, torch.zeros(4, dtype=torch.int64))
    value = objective("range", intra_weight=0.0, inter_weight=1.0)(alone)
    assert value == objective("cross_entropy")(alone)
    assert harmonic_ranges(made.features_BD, torch.arange(4), 2).tolist() == [0, 0, 0, 0]


def test_it_is_added_to_cross_entropy_and_not_weighted_by_class():
    made = outputs()
    term = (objective("range")(made) - objective("cross_entropy")(made)).item()
    weighted = objective("range", reweight="effective_number")(made)
    alone = objective("cross_entropy", reweight="effective_number")(made)
    assert (weighted - alone).item() == pytest.approx(term, rel=1e-9)
    assert term > 0
