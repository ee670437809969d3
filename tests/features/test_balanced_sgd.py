"""Class-balanced sampling over the bank, counted."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrsys.features.balanced_sgd import balanced_order, instance_order, minimise
from ltrsys.features.config import RetrainConfig
from tests.classifiers.conftest import CPU, LongTail

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)


@settings(deadline=None)
@given(COUNTS, st.integers(0, 3), st.integers(0, 2**63))
def test_each_class_and_each_of_its_images_is_drawn_evenly(counts: list[int], epoch: int, seed: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    order = balanced_order(labels, len(counts), seed=seed, epoch=epoch)
    assert len(order) == len(labels)
    share = len(labels) / np.count_nonzero(counts)
    per_class = np.bincount(labels[order], minlength=len(counts))
    per_image = np.bincount(order, minlength=len(labels))
    for class_id, count in enumerate(counts):
        if count == 0:
            assert per_class[class_id] == 0
            continue
        assert per_class[class_id] in (np.floor(share), np.ceil(share))
        assert np.ptp(per_image[labels == class_id]) <= 1


def test_epochs_and_seeds_differ_and_the_same_address_repeats() -> None:
    labels = np.repeat(np.arange(5), [50, 20, 9, 4, 2])
    first = balanced_order(labels, 5, seed=1, epoch=0)
    np.testing.assert_array_equal(first, balanced_order(labels, 5, seed=1, epoch=0))
    assert (first != balanced_order(labels, 5, seed=1, epoch=1)).any()
    assert (first != balanced_order(labels, 5, seed=2, epoch=0)).any()


def test_every_image_is_drawn_once_where_all_count_alike() -> None:
    labels = np.repeat(np.arange(5), [50, 20, 9, 4, 2])
    orders = [instance_order(labels, 5, seed=seed, epoch=epoch) for seed, epoch in ((1, 0), (1, 0), (2, 0), (1, 1))]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()
    assert (orders[0] != orders[3]).any()


def test_losses_are_weighted_by_class_and_parameters_brought_back_after_each_step(long_tail: LongTail) -> None:
    """One step of all images: the slope of the bias is the weighted mean of softmax less one-hot."""
    train = long_tail.train
    bias = torch.zeros(train.num_classes, requires_grad=True)
    weight = torch.linspace(0.5, 2, train.num_classes)
    steps = []
    minimise(
        lambda features: bias.expand(len(features), -1),
        [bias],
        train,
        RetrainConfig(epochs=1, batch_size=len(train), lr=1.0, weight_decay=0.0),
        seed=0,
        device=CPU,
        description="test",
        order=instance_order,
        class_weight_C=weight,
        after_step=lambda: steps.append(bias.detach().clone()),
    )
    counts = torch.from_numpy(train.class_counts)
    slope = ((weight * counts).sum() / train.num_classes - weight * counts) / len(train)
    assert len(steps) == 1
    torch.testing.assert_close(steps[0], -slope)


def test_a_batch_is_as_mixed_as_the_epoch() -> None:
    labels = np.repeat(np.arange(4), [4000, 400, 40, 4])
    batch = labels[balanced_order(labels, 4, seed=0, epoch=0)[:400]]
    assert (np.bincount(batch, minlength=4) > 60).all()  # 100 expected, 8.7 the standard deviation


def test_every_step_has_its_share_of_the_epoch(long_tail: LongTail) -> None:
    sizes = []
    parameter = torch.zeros(long_tail.train.num_classes, requires_grad=True)

    def logits(features: torch.Tensor) -> torch.Tensor:
        sizes.append(len(features))
        return parameter.expand(len(features), -1)

    config = RetrainConfig(epochs=2, batch_size=100)
    minimise(logits, [parameter], long_tail.train, config, seed=0, device=CPU, description="test")
    steps = round(len(long_tail.train) / 100)
    assert len(sizes) == 2 * steps
    assert sum(sizes[:steps]) == len(long_tail.train)
    assert max(sizes) - min(sizes) <= 1


def test_a_bank_smaller_than_a_batch_still_trains(long_tail: LongTail) -> None:
    parameter = torch.zeros(long_tail.train.num_classes, requires_grad=True)
    config = RetrainConfig(epochs=1, batch_size=10**6)
    minimise(
        lambda features: parameter + features.sum(dim=1, keepdim=True),
        [parameter],
        long_tail.train,
        config,
        seed=0,
        device=CPU,
        description="test",
    )
    assert parameter.isfinite().all()
