"""Feature banks without a network: Gaussian classes with a long tail."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ltrsys.classifiers.base import FitContext, SelectedOn, Selection
from ltrsys.classifiers.joint import Joint
from ltrsys.features.bank import BankSplit
from ltrsys.metrics.config import SelectBy

CPU = torch.device("cpu")
NUM_CLASSES, NUM_FEATURES = 20, 16


@dataclass(frozen=True)
class LongTail:
    """A long-tailed training split, val and test splits, and a classifier that prefers frequent classes."""

    train: BankSplit
    val: BankSplit
    test: BankSplit
    joint: Joint


def context(
    train: BankSplit,
    *,
    joint: Joint | None = None,
    val: BankSplit | None = None,
    select_on: SelectedOn | None = None,
    select_by: SelectBy = "mean_class_accuracy",
    seed: int = 0,
) -> FitContext:
    """Return what a classifier is fitted on."""
    selection = Selection(select_on, "val" if select_on == "val" else None) if select_on else None

    def joint_of_model() -> Joint:
        assert joint is not None
        return joint

    return FitContext(train, val, selection, joint_of_model, seed, CPU, select_by)


def gaussian_split(counts: NDArray[np.int64], *, spread: float, seed: int) -> BankSplit:
    """Draw features around fixed class centres; the rows come in random order."""
    centres = np.abs(np.random.default_rng(7).normal(size=(len(counts), NUM_FEATURES)))
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    features = centres[labels] + spread * random.normal(size=(len(labels), NUM_FEATURES))
    return BankSplit(features.astype(np.float32), labels.astype(np.int64), len(counts))


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """These matrices are so small that handing them to threads costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def long_tail(_one_thread: None) -> LongTail:
    counts = np.round(300 * 0.75 ** np.arange(NUM_CLASSES)).astype(np.int64).clip(2)
    train = gaussian_split(counts, spread=0.6, seed=0)
    balanced = np.full(NUM_CLASSES, 25)
    val, test = (gaussian_split(balanced, spread=0.6, seed=seed) for seed in (1, 2))
    return LongTail(train, val, test, trained_joint(train, steps=60, lr=0.2))


@pytest.fixture(scope="package")
def natural_tail(_one_thread: None) -> LongTail:
    """99 classes of 984 down to 2 training images, and a fifth as many in val and in test, but one at least."""
    counts = np.round(984 * (2 / 984) ** (np.arange(99) / 98)).astype(np.int64)
    train = gaussian_split(counts, spread=0.6, seed=0)
    val, test = (gaussian_split(np.maximum(1, counts // 5), spread=0.6, seed=seed) for seed in (1, 2))
    return LongTail(train, val, test, trained_joint(train, steps=200, lr=0.5))


def trained_joint(train: BankSplit, *, steps: int, lr: float) -> Joint:
    """Train a linear classifier instance-balanced: every row once a step."""
    layer = torch.nn.Linear(NUM_FEATURES, train.num_classes)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    features, labels = train.rows(np.arange(len(train)), CPU)
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(features), labels).backward()
        optimizer.step()
    return Joint(layer.weight.detach(), layer.bias.detach())
