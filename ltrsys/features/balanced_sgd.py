"""Gradient descent on the feature bank with class-balanced sampling: what cRT, LWS and the learned tau share."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from ltrsys.data.plan.samplers.powers import ClassBalanced
from ltrsys.data.plan.sampling import class_weights, quotas
from ltrsys.errors import DataError
from ltrsys.features.bank import BankSplit
from ltrsys.features.config import RetrainConfig
from ltrsys.progress import progress
from ltrsys.random import Stream, permutation


def balanced_order(labels: NDArray[np.int64], num_classes: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the rows of one class-balanced epoch, int64 [n]: as many as there are, in random order.

    Each class with an image is drawn n / C times, up to one; its images are used evenly, their counts differing
    by one at most. A pure function of its arguments.
    """
    counts = np.bincount(labels, minlength=num_classes)
    weights = class_weights(counts, ClassBalanced(), epoch=epoch)
    quota = quotas(weights.weights, len(labels), seed=seed, epoch=epoch)
    shuffled = permutation(len(labels), seed=seed, stream=Stream.CLASSIFIER, major=epoch, minor=0)
    rows_by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    drawn_class = np.repeat(np.arange(num_classes), quota)
    draw_of_class = np.arange(len(labels)) - _starts(quota)[drawn_class]
    rows = rows_by_class[_starts(counts)[drawn_class] + draw_of_class % counts[drawn_class]]
    return rows[permutation(len(rows), seed=seed, stream=Stream.CLASSIFIER, major=epoch, minor=1)]


def minimise(
    logits: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    train: BankSplit,
    config: RetrainConfig,
    *,
    seed: int,
    device: torch.device,
    description: str,
    rows: NDArray[np.int64] | None = None,
) -> None:
    """Change `parameters` in place to lower the cross-entropy of `logits`: features [B, D] -> logits [B, C].

    SGD with momentum, the learning rate falling to 0 as a cosine over the steps. An epoch is cut into equal
    batches of about `batch_size`: a small last one would weigh as much as a full one. With `rows`, int64 [n], the
    images of these rows alone are trained on, and an epoch is as long as they are.
    """
    rows = np.arange(len(train)) if rows is None else rows
    labels = train.labels[rows]
    steps_per_epoch = max(1, round(len(rows) / config.batch_size))
    optimizer = torch.optim.SGD(
        list(parameters), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    read = train.reader(device)
    schedule = CosineAnnealingLR(optimizer, T_max=config.epochs * steps_per_epoch)
    with progress(description, config.epochs * steps_per_epoch) as advance:
        for epoch in range(config.epochs):
            order = rows[balanced_order(labels, train.num_classes, seed=seed, epoch=epoch)]
            for batch in np.array_split(order, steps_per_epoch):
                features_BD, labels_B = read(batch)
                loss = torch.nn.functional.cross_entropy(logits(features_BD), labels_B)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                advance()


def refuse_divergence(section: str, *learned: Tensor) -> None:
    """Raise a DataError if anything learned under `balance.<section>` is not finite."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in learned):
        raise DataError(f"{section}: the training of this classifier diverged. Lower balance.{section}.lr.")


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each class begins when the classes are laid end to end."""
    return np.concatenate([[0], np.cumsum(counts)[:-1]])
