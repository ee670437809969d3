"""Scores less t times the logarithm of the class frequencies: many-shot accuracy is given up for few-shot accuracy.

Any classifier can be tilted (post-hoc logit adjustment: Menon et al., 2021, section 4.1). One that gains on few-shot
classes what it loses on many-shot ones is another point of the same curve over t, and not a better one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ltrsys.classifiers.base import Classifier
    from ltrsys.features.bank import BankSplit


def log_prior(class_counts: NDArray[np.int64]) -> Tensor:
    """Return the logarithm of each class's share of the training images, float32 [C].

    A class without an image counts as if it had one, or it would be preferred to all others.
    """
    import torch

    counts = np.maximum(class_counts, 1).astype(np.float64)
    return torch.from_numpy(np.log(counts / counts.sum())).float()


def tilted_predictions(
    classifier: Classifier[Any], split: BankSplit, log_prior_C: Tensor, grid: list[float], device: torch.device
) -> NDArray[np.int64]:
    """Return the predictions of a classifier whose scores are tilted by each t of `grid`, int64 [T, n].

    All from one computation of the scores; ties go to the lower class id.
    """
    import torch

    from ltrsys.progress import progress

    prior_C = log_prior_C.to(device)
    blocks = []
    with progress("tilt", len(split)) as advance, torch.inference_mode():
        for features_ND, labels_N in split.blocks(device):
            scores_NC = classifier.scores(features_ND)
            rows = [(scores_NC - t * prior_C).argmax(dim=1) for t in grid]
            blocks.append(torch.stack(rows).cpu().numpy())
            advance(len(labels_N))
    return np.concatenate(blocks, axis=1)
