"""A long tail of five classes, one of a single image and one of none, and outputs for it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltrsys.training.losses.base import LOSSES, LossContext, Outputs
from ltrsys.training.objective import Objective

COUNTS = np.array([50, 20, 8, 1, 0])
NUM_FEATURES = 6


def context(counts: np.ndarray = COUNTS, label_smoothing: float = 0.0) -> LossContext:
    return LossContext(counts, label_smoothing, torch.device("cpu"), NUM_FEATURES)


def outputs(seed: int = 0, size: int = 9, counts: np.ndarray = COUNTS, spread: float = 2.0) -> Outputs:
    """Return random logits and features of torch's default type, which have gradients; each class with images occurs
    twice or more."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.from_numpy(np.flatnonzero(counts))
    labels = present[torch.arange(size) % len(present)]
    logits = (spread * torch.randn(size, len(counts), generator=generator)).requires_grad_()
    features = torch.randn(size, NUM_FEATURES, generator=generator).requires_grad_()
    return Outputs(logits, features, labels)


def by_sample(kind: str, made: Outputs, counts: np.ndarray = COUNTS, smoothing: float = 0.0, **settings: Any) -> Tensor:
    """Return the loss of each sample."""
    return LOSSES.get(kind)(**settings).build(context(counts, smoothing))(made)


def objective(kind: str, counts: np.ndarray = COUNTS, smoothing: float = 0.0, **settings: Any) -> Objective:
    return Objective(LOSSES.get(kind)(**settings), context(counts, smoothing))


def probabilities(made: Outputs, shift: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the softmax of logits + shift, float64 [B, C], by its definition."""
    powers = np.exp(made.logits_BC.detach().double().numpy() + shift)
    return powers / powers.sum(axis=1, keepdims=True)


def of_label(values: np.ndarray, made: Outputs) -> np.ndarray:
    """Return the column of each sample's label, [B]."""
    return values[np.arange(len(values)), made.labels_B.numpy()]
