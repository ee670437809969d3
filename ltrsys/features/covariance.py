"""How the features of a bank spread around the means of their classes: one pass over it.

C classes, P of them with an image, D features, N images of a block, K of a sample.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.features.bank import BLOCK_ROWS, BankSplit, give_back
from ltrsys.progress import progress

SAMPLE = 32_768
"""Rows that the Ledoit-Wolf shrinkage is estimated from, where there are more: a quarter of a GiB of 2048 features."""


@dataclass(frozen=True)
class Spread:
    """Class means, and the sum of the squared deviations from them."""

    means_CD: Tensor
    """float64; zero for a class without an image."""
    counts_C: Tensor
    """Images, int64."""
    scatter_DD: Tensor
    """float64: the sum over the images of w (x - m)(x - m)', m the mean of the class."""
    each_class_alike: bool
    """Whether the weight w of an image is one over the number of images of its class, or else 1."""

    @classmethod
    def of_bank(cls, train: BankSplit, device: torch.device, *, each_class_alike: bool) -> "Spread":
        """Measure it in one pass over the bank.

        Deviations are first taken from the mean of the first block: from 0, squares would be large, and what is left
        once the squares of the means are taken off would have few digits.
        """
        counts_C = torch.from_numpy(train.class_counts).to(device)
        weight_C = _weights(counts_C, each_class_alike)
        sums_CD = torch.zeros(train.num_classes, train.num_features, dtype=torch.float64, device=device)
        scatter_DD = sums_CD.new_zeros(train.num_features, train.num_features)
        origin_D = None
        with progress("covariance", len(train)) as advance:
            for features_ND, labels_N in train.blocks(device):
                block_ND = features_ND.double()
                origin_D = block_ND.mean(dim=0) if origin_D is None else origin_D
                block_ND -= origin_D
                sums_CD.index_add_(0, labels_N, block_ND)
                if each_class_alike:
                    block_ND *= weight_C[labels_N, None].sqrt()
                scatter_DD += _products_of_columns(block_ND)
                advance(len(labels_N))
        assert origin_D is not None, "a bank holds an image"
        means_CD = sums_CD / counts_C.clamp_min(1)[:, None]
        scatter_DD.addmm_((sums_CD * weight_C[:, None]).T, means_CD, alpha=-1)
        means_CD += origin_D
        return cls(means_CD.masked_fill_(counts_C[:, None] == 0, 0), counts_C, scatter_DD, each_class_alike)

    @property
    def covariance_DD(self) -> Tensor:
        """The covariance within classes, float64."""
        return self.scatter_DD / self._total

    def with_classes(self, features_ND: Tensor, labels_N: Tensor, num_new: int) -> "Spread":
        """Return it with `num_new` more classes; `labels_N` count them from 0."""
        counts_C = torch.bincount(labels_N, minlength=num_new)
        means_CD = self.means_CD.new_zeros(num_new, self.means_CD.shape[1])
        means_CD.index_add_(0, labels_N, features_ND.double())
        means_CD /= counts_C.clamp_min(1)[:, None]
        deviations_ND = features_ND.double() - means_CD[labels_N]
        weight_N = _weights(counts_C, self.each_class_alike)[labels_N]
        return replace(
            self,
            means_CD=torch.cat([self.means_CD, means_CD]),
            counts_C=torch.cat([self.counts_C, counts_C]),
            scatter_DD=self.scatter_DD + (deviations_ND * weight_N[:, None]).T @ deviations_ND,
        )

    def ledoit_wolf(self, train: BankSplit) -> float:
        """Return how far the covariance is best drawn to a multiple of the identity, 0 to 1.

        Ledoit and Wolf, 2004, section 3.2, for a weighted mean S of the squares of deviations z: the sum over the
        images of (w |z z' - S|)^2 over |S - tr(S)/D I|^2, the weights w summing to 1. Of a large bank as many images
        of each class stand for all of them, so that most of it is not read again.

        Args:
            train: The bank that it was measured on.
        """
        covariance_DD, device = self.covariance_DD, self.means_CD.device
        squared = float(covariance_DD.square().sum())
        weight_C = _weights(self.counts_C, self.each_class_alike) / self._total
        rows_K, stands_for_C = _sample(train)
        error = 0.0
        for first in range(0, len(rows_K), BLOCK_ROWS):
            features_ND, labels_N = train.rows(rows_K[first : first + BLOCK_ROWS], device)
            deviations_ND = features_ND.double() - self.means_CD[labels_N]
            fourth_N = deviations_ND.square().sum(dim=1).square()
            along_N = (deviations_ND @ covariance_DD * deviations_ND).sum(dim=1)
            stands_for_N = torch.from_numpy(stands_for_C).to(device)[labels_N]
            give_back(train.features)
            error += float((stands_for_N * weight_C[labels_N].square() * (fourth_N - 2 * along_N + squared)).sum())
        num_features = len(covariance_DD)
        distance = squared - float(covariance_DD.trace()) ** 2 / num_features
        return min(1.0, max(0.0, error / distance)) if distance > 0 else 1.0

    @property
    def _total(self) -> Tensor:
        return (self.counts_C > 0).sum() if self.each_class_alike else self.counts_C.sum()


def shrunk(covariance_DD: Tensor, shrinkage: float) -> Tensor:
    """Return the covariance drawn to a multiple of the identity with the same trace."""
    mean = covariance_DD.trace() / len(covariance_DD)
    return torch.lerp(covariance_DD, mean * torch.eye(len(covariance_DD)).to(covariance_DD), shrinkage)


def _products_of_columns(rows_ND: Tensor) -> Tensor:
    """Return rows' rows, [D, D]: on a CPU from numpy, which computes half of a symmetric product (BLAS's syrk)."""
    if rows_ND.device.type != "cpu":
        return rows_ND.T @ rows_ND
    rows = rows_ND.numpy()
    return torch.from_numpy(rows.T @ rows)


def _weights(counts_C: Tensor, each_class_alike: bool) -> Tensor:
    return 1 / counts_C.clamp_min(1).double() if each_class_alike else torch.ones_like(counts_C).double()


def _sample(train: BankSplit) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return rows of all classes, ascending, and for how many images of its class each stands, float64 [C]."""
    most = max(1, SAMPLE // int(np.count_nonzero(train.class_counts)))
    if len(train) <= SAMPLE:
        most = len(train)
    rows_K = np.sort(np.concatenate([rows[:most] for rows in train.rows_of_class]))
    return rows_K, train.class_counts / np.clip(train.class_counts, 1, most)
