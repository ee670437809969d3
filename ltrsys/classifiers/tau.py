"""The tau-normalised classifier (paper, equation 3), and the three ways to find tau (B.5)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.classifiers.base import Classifier, ClassifierName, SelectedOn
from ltrsys.classifiers.config import TauConfig
from ltrsys.classifiers.joint import Joint
from ltrsys.features.balanced_sgd import minimise, refuse_divergence
from ltrsys.features.bank import BankSplit
from ltrsys.kernels import norm_factor, tau_logits, tau_sweep, top_classes
from ltrsys.metrics.accuracy import mean_class_accuracy, percentage
from ltrsys.progress import progress


@dataclass(frozen=True)
class TauNorm(Classifier):
    """The joint classifier, each class weight divided by its norm to the power tau, the bias dropped."""

    name: ClassVar[ClassifierName] = "tau"

    weight_CD: Tensor
    """The joint weights, not normalised."""
    tau: float
    selected_on: SelectedOn | None
    val_is_test: bool = False
    """Whether the val split it was selected on is the one that results are reported on."""

    @classmethod
    def fit(
        cls,
        joint: Joint,
        train: BankSplit,
        val: BankSplit | None,
        config: TauConfig,
        *,
        select_on: SelectedOn,
        val_is_test: bool = False,
        seed: int,
        device: torch.device,
    ) -> "TauNorm":
        """Find tau: the best accuracy on `val`, the best mean class accuracy on train, or by gradient descent.

        The mean over the classes makes a balanced test set of the training set (B.5). Of equals the smaller tau
        is taken.

        Raises:
            DataError: Where the learning of tau diverges.
        """
        if select_on == "learned":
            tau = _learn(joint, train, config, seed=seed, device=device)
        elif select_on == "val":
            assert val is not None
            predictions = sweep(joint, val, config.grid, device)
            tau = _best(config.grid, [percentage(row == val.labels) for row in predictions])
        else:
            predictions = sweep(joint, train, config.grid, device)
            means = [mean_class_accuracy(train.labels, row, train.num_classes) for row in predictions]
            tau = _best(config.grid, means)
        return cls(joint.weight_CD, tau, select_on, val_is_test and select_on == "val")

    def rank(self, features_ND: Tensor, k: int) -> Tensor:
        """Return the k classes of the highest logits."""
        return top_classes(tau_logits(features_ND, self.weight_CD, self.tau), k)

    def weight(self) -> Tensor:
        """Return the normalised weights."""
        return self.weight_CD * norm_factor(self.weight_CD, self.tau)[:, None]

    def params(self) -> dict[str, Any]:
        """Return tau, and that it was chosen on the test images if it was."""
        return {"tau": self.tau} | ({"val_is_test": True} if self.val_is_test else {})

    def tensors(self) -> dict[str, Tensor]:
        """Return the joint weights."""
        return {"weight": self.weight_CD}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from the joint weights and tau."""
        return cls(tensors["weight"], float(params["tau"]), selected_on, "val_is_test" in params)


def sweep(joint: Joint, split: BankSplit, grid: list[float], device: torch.device) -> NDArray[np.int64]:
    """Return the predictions for each tau of `grid`, int64 [T, n]."""
    taus = torch.tensor(grid, dtype=torch.float64, device=device)
    classes = []
    with progress("tau", len(split)) as advance:
        for features_ND, labels_N in split.blocks(device):
            classes.append(tau_sweep(features_ND, joint.weight_CD, taus).cpu().numpy())
            advance(len(labels_N))
    return np.concatenate(classes, axis=1)


def _best(grid: list[float], accuracies: list[float | None]) -> float:
    """Return the tau of the highest accuracy; the smallest of equals, whatever the order of the grid."""
    return max(zip(grid, accuracies, strict=True), key=lambda point: (point[1] or 0.0, -point[0]))[0]


def _learn(joint: Joint, train: BankSplit, config: TauConfig, *, seed: int, device: torch.device) -> float:
    tau = torch.zeros((), device=device, requires_grad=True)

    def logits(features_BD: Tensor) -> Tensor:
        return tau_logits(features_BD, joint.weight_CD, tau)

    minimise(logits, [tau], train, config.learned, seed=seed, device=device, description="tau")
    refuse_divergence("tau.learned", tau)
    return float(tau.detach())
