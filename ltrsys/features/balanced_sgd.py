"""Gradient descent on the feature bank: class-balanced, as for cRT, LWS and the learned tau, or every image alike."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR

from ltrsys.data.plan.samplers.powers import ClassBalanced
from ltrsys.data.plan.sampling import class_weights, quotas
from ltrsys.errors import DataError
from ltrsys.features.bank import BankSplit
from ltrsys.features.config import RetrainConfig
from ltrsys.features.row_reading import row_reader
from ltrsys.progress import progress
from ltrsys.random import Stream, permutation


class RowOrder(Protocol):
    """The rows of an epoch, int64 [n], in their order: a pure function of its arguments."""

    def __call__(self, labels: NDArray[np.int64], num_classes: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return them."""
        ...


def instance_order(labels: NDArray[np.int64], num_classes: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the rows of one instance-balanced epoch, int64 [n]: each once, in random order."""
    return permutation(len(labels), seed=seed, stream=Stream.CLASSIFIER, major=epoch, minor=0)


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
    order: RowOrder = balanced_order,
    class_weight_C: Tensor | None = None,
    after_step: Callable[[], None] | None = None,
) -> None:
    """Change `parameters` in place to lower the cross-entropy of `logits`: features [B, D] -> logits [B, C].

    SGD with momentum, the learning rate falling to 0 as a cosine over the steps. An epoch is cut into equal
    batches of about `batch_size`: a small last one would weigh as much as a full one.

    Args:
        logits: Of the classifier.
        parameters: What it learns.
        train: The bank's training images.
        config: Learning rate and the like.
        seed: Of the order of the images.
        device: Where the parameters are.
        description: For the progress bar.
        rows: The images of these rows alone are trained on, int64 [n]; an epoch is as long as they are.
        order: How often each image is drawn.
        class_weight_C: Factors of the losses of the images of each class, float32 [C]; a batch's are averaged over its
            images.
        after_step: Called after every step, such as to bring the parameters back into a ball.
    """
    rows = np.arange(len(train)) if rows is None else rows
    labels = train.labels[rows]
    steps_per_epoch = max(1, round(len(rows) / config.batch_size))
    optimizer = torch.optim.SGD(
        list(parameters), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    reader = row_reader(train, device)
    schedule = CosineAnnealingLR(optimizer, T_max=config.epochs * steps_per_epoch)
    with progress(description, config.epochs * steps_per_epoch) as advance:
        for epoch in range(config.epochs):
            drawn = rows[order(labels, train.num_classes, seed=seed, epoch=epoch)]
            for features_BD, labels_B in reader.batches(np.array_split(drawn, steps_per_epoch)):
                loss = _loss(logits(features_BD), labels_B, class_weight_C)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if after_step is not None:
                    after_step()
                schedule.step()
                advance()


def _loss(logits_BC: Tensor, labels_B: Tensor, class_weight_C: Tensor | None) -> Tensor:
    if class_weight_C is None:
        return cross_entropy(logits_BC, labels_B)
    # torch's own `weight` divides by the sum of the weights in the batch, which would make each batch weigh alike
    return (class_weight_C[labels_B] * cross_entropy(logits_BC, labels_B, reduction="none")).mean()


def refuse_divergence(section: str, *learned: Tensor) -> None:
    """Raise a DataError if anything learned under `balance.<section>` is not finite."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in learned):
        raise DataError(f"{section}: the training of this classifier diverged. Lower balance.{section}.lr.")


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each class begins when the classes are laid end to end."""
    return np.concatenate([[0], np.cumsum(counts)[:-1]])
