"""Which rectangle of which other image is cut into an image, and how its labels are weighed."""

import numpy as np
import pytest
import torch
from scipy.stats import beta

from ltrsys.data.loading.loader import Batch
from ltrsys.data.plan.batching import Batching
from ltrsys.training.config import CutMixConfig, MixupConfig, TrainConfig
from ltrsys.training.cutmix import cut_in, draw
from ltrsys.training.mixing import cuts, mixed
from ltrsys.training.mixup import mix
from ltrsys.world import World

POSITIONS = 96 + np.arange(3, 48, 4)
BATCH = Batch(
    torch.arange(12.0)[:, None, None, None].expand(12, 3, 10, 14).contiguous(memory_format=torch.channels_last),
    torch.arange(12) * 10,
    torch.arange(12),
    POSITIONS,
)


def rectangles(positions=POSITIONS, *, alpha=1.0, seed=0, epoch=0, side=224):
    return draw(positions, alpha=alpha, seed=seed, epoch=epoch, height=side, width=side)


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_areas_are_of_the_beta_distribution_where_no_border_cuts_them_off(alpha):
    _, boxes = rectangles(np.arange(40_000), alpha=alpha, side=10_000)
    start, end = np.split(boxes / 10_000, 2, axis=1)
    assert ((start >= 0) & (end <= 1) & (start <= end)).all()
    inner = np.all((start > 0) & (end < 1), axis=1)
    sides = (end - start)[inner]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], atol=3e-4)
    # a square of side s lies within with probability (1 - s)²: with that taken out, areas are 1 - Beta(alpha, alpha)
    weights = 1 / (1 - sides[:, 0]) ** 2
    small = sides[:, 0] ** 2 < 0.25
    assert weights[small].sum() / 40_000 == pytest.approx(beta(alpha, alpha).cdf(0.25), rel=0.05)


def test_every_image_is_the_partner_of_one():
    assert sorted(rectangles()[0]) == list(range(12))


def test_seed_epoch_and_position_decide_and_nothing_else():
    made = [rectangles(seed=seed, epoch=epoch)[1] for seed in (0, 1) for epoch in (0, 1)]
    assert len({boxes.tobytes() for boxes in made}) == 4
    assert np.array_equal(rectangles(POSITIONS[5:7])[1], made[0][5:7]), "that of a position, whatever stands beside it"


def test_pixels_of_the_rectangle_are_the_partners_and_the_share_is_what_is_left():
    images, others = cut_in(BATCH, alpha=1.0, seed=0, epoch=0)
    partners, boxes = draw(POSITIONS, alpha=1.0, seed=0, epoch=0, height=10, width=14)
    for number, (partner, (top, left, bottom, right)) in enumerate(zip(partners, boxes.tolist(), strict=True)):
        expected = torch.full((3, 10, 14), float(number))
        expected[:, top:bottom, left:right] = float(partner)
        assert torch.equal(images[number], expected)
        own = (expected == number).float().mean().item() if partner != number else None
        assert own is None or others.share_B[number].item() == pytest.approx(own)
    assert others.labels_B.tolist() == (10 * partners).tolist()
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(BATCH.images[:, 0, 0, 0], torch.arange(12.0)), "the loader's batch stays"


def test_any_number_of_ranks_mixes_the_same_micro_batches():
    def of(ranks):
        found = {}
        for rank in range(ranks):
            batching = Batching(48, 12, World(rank, ranks), 8)
            for accumulated in range(batching.accumulation):
                positions = batching.positions(1, accumulated)
                partners, boxes = rectangles(positions)
                which = cuts(positions, seed=0, epoch=0)
                found[tuple(positions)] = (tuple(positions[partners]), boxes.tobytes(), which)
        return found

    assert of(1) == of(2) == of(4)


def test_with_mixup_a_micro_batch_has_one_of_both_as_likely():
    chosen = [cuts(12 * number + np.arange(12), seed=0, epoch=0) for number in range(4000)]
    assert np.mean(chosen) == pytest.approx(0.5, abs=0.03)
    both = TrainConfig(mixup=MixupConfig(alpha=0.4), cutmix=CutMixConfig(alpha=1.0))
    for epoch in range(6):
        expected, _ = (
            cut_in(BATCH, alpha=1.0, seed=0, epoch=epoch)
            if cuts(POSITIONS, seed=0, epoch=epoch)
            else mix(BATCH, alpha=0.4, seed=0, epoch=epoch)
        )
        assert torch.equal(mixed(BATCH, both, seed=0, epoch=epoch)[0], expected)
    assert len({cuts(POSITIONS, seed=0, epoch=epoch) for epoch in range(6)}) == 2


def test_one_of_them_alone_has_every_micro_batch():
    for epoch in range(6):
        found, _ = mixed(BATCH, TrainConfig(cutmix=CutMixConfig(alpha=1.0)), seed=0, epoch=epoch)
        assert torch.equal(found, cut_in(BATCH, alpha=1.0, seed=0, epoch=epoch)[0])
        found, _ = mixed(BATCH, TrainConfig(mixup=MixupConfig(alpha=0.4)), seed=0, epoch=epoch)
        assert torch.equal(found, mix(BATCH, alpha=0.4, seed=0, epoch=epoch)[0])
    assert mixed(BATCH, TrainConfig(), seed=0, epoch=0) == (BATCH.images, None)
