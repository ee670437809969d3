"""Which images are mixed, and how much."""

import numpy as np
import pytest
import torch

from ltrsys.data.loading.loader import Batch
from ltrsys.data.plan.batching import Batching
from ltrsys.training.mixup import draw, mix
from ltrsys.world import World

POSITIONS = 96 + np.arange(3, 48, 4)


def test_shares_are_of_the_beta_distribution():
    positions = np.arange(20_000)
    for alpha in (0.2, 1.0, 4.0):
        _, shares = draw(positions, alpha=alpha, seed=0, epoch=0)
        assert shares.dtype == np.float32
        assert shares.mean() == pytest.approx(0.5, abs=0.01)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.02)


def test_every_image_is_the_partner_of_one():
    partners, _ = draw(POSITIONS, alpha=0.2, seed=0, epoch=0)
    assert sorted(partners) == list(range(12))


def test_every_order_of_three_partners_is_as_likely():
    orders = [tuple(draw(3 * batch + np.arange(3), alpha=1.0, seed=0, epoch=0)[0]) for batch in range(6000)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert np.sum((counts - 1000) ** 2 / 1000) < 20.5  # the 99.9th percentile of chi squared with 5 degrees of freedom


def test_seed_epoch_and_position_decide_and_nothing_else():
    made = [draw(POSITIONS, alpha=0.2, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert np.array_equal(draw(POSITIONS, alpha=0.2, seed=0, epoch=0), made[0])
    assert len({tuple(shares) for _, shares in made}) == 4
    _, alone = draw(POSITIONS[5:7], alpha=0.2, seed=0, epoch=0)
    assert np.array_equal(alone, made[0][1][5:7]), "the share of a position, whatever stands beside it"


def test_any_number_of_ranks_mixes_the_same_micro_batches():
    def of(ranks):
        found = {}
        for rank in range(ranks):
            batching = Batching(48, 12, World(rank, ranks), 8)
            for accumulated in range(batching.accumulation):
                positions = batching.positions(1, accumulated)
                partners, shares = draw(positions, alpha=0.4, seed=5, epoch=2)
                found[tuple(positions)] = (tuple(positions[partners]), tuple(shares))
        return found

    assert of(1) == of(2) == of(4)


def test_images_are_means_of_two_in_the_same_layout():
    images = torch.arange(12.0)[:, None, None, None].expand(12, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(12) * 10
    batch = Batch(images, labels, torch.arange(12), POSITIONS)
    found, mixed = mix(batch, alpha=0.4, seed=0, epoch=0)
    partners, shares = draw(POSITIONS, alpha=0.4, seed=0, epoch=0)
    assert mixed.labels_B.tolist() == (10 * partners).tolist()
    assert mixed.share_B.tolist() == shares.tolist()
    expected = shares * np.arange(12) + (1 - shares) * partners
    np.testing.assert_allclose(found[:, 1, 0, 1], expected, rtol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images[:, 0, 0, 0], torch.arange(12.0)), "the loader's batch stays"


def test_alpha_zero_mixes_nothing():
    batch = Batch(torch.zeros(12, 3, 2, 2), torch.arange(12), torch.arange(12), POSITIONS)
    assert mix(batch, alpha=0.0, seed=0, epoch=0) == (batch.images, None)
