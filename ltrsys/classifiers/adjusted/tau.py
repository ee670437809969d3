"""The tau-normalised classifier (paper, equation 3), and the three ways to find tau (B.5)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn, Selection, ValSplit, best_of_grid
from ltrsys.errors import UsageError
from ltrsys.features.config import RetrainConfig
from ltrsys.section import Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ltrsys.classifiers.joint import Joint
    from ltrsys.features.bank import BankSplit


log = logging.getLogger("ltrsys")

RELATED = 0.5
"""From this correlation on, norms are taken to go with class frequencies. With SGD it is near 1."""
FEWEST_CLASSES = 10
"""Of fewer, a correlation says nothing."""
SAME = 1e-5
"""Logarithms of norms that differ by less differ by rounding."""


class TauConfig(Section):
    """tau-normalisation (paper, equation 3)."""

    grid: list[float] = Field(default=[round(0.1 * step, 1) for step in range(21)], min_length=1)
    select_on: Literal["auto", "val", "train", "learned"] = "auto"
    """The best on val by `balance.select_by`; the best mean class accuracy on train (paper, B.5); or learned by
    gradient descent. `auto` is val where there is a val split, else train."""
    learned: RetrainConfig = RetrainConfig(epochs=5, lr=0.1, weight_decay=0.0)


@CLASSIFIERS.register
@dataclass(frozen=True)
class TauNorm(Classifier[TauConfig]):
    """The joint classifier, each class weight divided by its norm to the power tau, the bias dropped."""

    name = "tau"
    summary = "the joint weights divided by their norms to the power tau, without bias"
    source = "Kang et al., 2020, equation 3"
    order = 30
    label, color, marker = "τ-normalised", "#E69F00", "D"
    Config = TauConfig
    uses_joint = True
    depends_on_seed = True
    needs_linear_head = "it divides the joint weights by their norms, on which a cosine does not depend"

    weight_CD: Tensor
    """The joint weights, not normalised."""
    tau: float
    selected_on: SelectedOn | None
    val_is_test: bool = False
    """Whether the val split it was selected on is the one that results are reported on."""

    @classmethod
    def selects_on(cls, config: TauConfig, val: ValSplit) -> Selection:
        """Say what tau is selected on; never the split that is reported, unless the config says so by name."""
        select_on = config.select_on
        if select_on == "auto":
            select_on = "val" if val.name else "train"
        if select_on == "val" and val.name is None:
            if val.reported is None:
                raise UsageError(
                    f"balance.tau.select_on=val: {val.dataset} has no val split. Select on train or learned."
                )
            raise UsageError(
                f"balance.tau.select_on=val: {val.dataset} has no val split beside `{val.reported}`, which is "
                "reported. Select on train or learned; or, to tune on the reported images, set "
                "balance.val_is_test=true."
            )
        return Selection(select_on, val.name, val.is_reported) if select_on == "val" else Selection(select_on)

    @classmethod
    def fit(cls, context: FitContext, config: TauConfig) -> Self:
        """Find tau: the best score on val, the best mean class accuracy on train, or by gradient descent.

        The mean over the classes makes a balanced test set of the training set (B.5). Of equals the smaller tau
        is taken.

        Raises:
            DataError: Where the learning of tau diverges.
        """
        from ltrsys.metrics.class_mean import mean_class_accuracy

        assert context.selection is not None
        joint, train, select_on = context.joint(), context.train, context.selection.select_on
        _warn_of_unrelated_norms(joint.weight_CD, train.class_counts)
        if select_on == "learned":
            tau = _learn(joint, train, config, seed=context.seed, device=context.device)
        elif select_on == "val":
            assert context.val is not None
            predictions = sweep(joint, context.val, config.grid, context.device)
            tau = best_of_grid(config.grid, [context.score(row) for row in predictions])
        else:
            predictions = sweep(joint, train, config.grid, context.device)
            means = [mean_class_accuracy(train.labels, row, train.num_classes) or 0.0 for row in predictions]
            tau = best_of_grid(config.grid, means)
        return cls(joint.weight_CD, tau, select_on, context.selection.val_is_test)

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the logits, [N, C]."""
        from ltrsys.kernels import tau_logits

        return tau_logits(features_ND, self.weight_CD, self.tau)

    def as_linear(self) -> tuple[Tensor, None]:
        """Return the normalised weights."""
        from ltrsys.kernels import norm_factor

        return self.weight_CD * norm_factor(self.weight_CD, self.tau)[:, None], None

    def params(self) -> dict[str, Any]:
        """Return tau, and that it was chosen on the test images if it was."""
        return {"tau": self.tau} | ({"val_is_test": True} if self.val_is_test else {})

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say tau and what it was chosen on, with a warning if that is what is reported."""
        where = {"val": "chosen on val", "train": "chosen on train", "learned": "learned on train", None: ""}
        warning = ", which is the reported split" if params.get("val_is_test") else ""
        return f"τ = {params['tau']:.4g}, {where[selected_on]}{warning}"

    def tensors(self) -> dict[str, Tensor]:
        """Return the joint weights."""
        return {"weight": self.weight_CD}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from the joint weights and tau."""
        return cls(tensors["weight"], float(params["tau"]), selected_on, "val_is_test" in params)


def sweep(joint: Joint, split: BankSplit, grid: list[float], device: torch.device) -> NDArray[np.int64]:
    """Return the predictions for each tau of `grid`, int64 [T, n]."""
    import torch

    from ltrsys.kernels import tau_sweep
    from ltrsys.progress import progress

    taus = torch.tensor(grid, dtype=torch.float64, device=device)
    classes = []
    with progress("tau", len(split)) as advance:
        for features_ND, labels_N in split.blocks(device):
            classes.append(tau_sweep(features_ND, joint.weight_CD, taus).cpu().numpy())
            advance(len(labels_N))
    return np.concatenate(classes, axis=1)


def norms_follow_counts(weight_CD: Tensor, class_counts: NDArray[np.int64]) -> float | None:
    """Return the correlation of the logarithms of weight norms and class counts; None where all counts are the same.

    It is 0 where all norms are the same. Classes without a training image, and weights of length 0, are left out.
    """
    norms = weight_CD.double().norm(dim=1).cpu().numpy()
    used = (norms > 0) & (class_counts > 0)
    logarithms = np.log(norms[used]), np.log(class_counts[used])
    if used.sum() < FEWEST_CLASSES or np.ptp(logarithms[1]) == 0:
        return None
    if np.ptp(logarithms[0]) < SAME:
        return 0.0
    return float(np.corrcoef(*logarithms)[0, 1])


def _warn_of_unrelated_norms(weight_CD: Tensor, class_counts: NDArray[np.int64]) -> None:
    correlation = norms_follow_counts(weight_CD, class_counts)
    if correlation is not None and correlation < RELATED:
        log.warning(
            "tau: the norms of the joint weights do not go with the class frequencies (correlation of their logarithms "
            "%.2f), as in networks trained with Adam: dividing by them re-balances little. The tilt of the scores "
            "(--classifiers logit_adjusted) needs no such thing.",
            correlation,
        )


def _learn(joint: Joint, train: BankSplit, config: TauConfig, *, seed: int, device: torch.device) -> float:
    import torch

    from ltrsys.features.balanced_sgd import minimise, refuse_divergence
    from ltrsys.kernels import row_norms, tau_logits

    tau, norms_C = torch.zeros((), device=device, requires_grad=True), row_norms(joint.weight_CD)

    def logits(features_BD: Tensor) -> Tensor:
        return tau_logits(features_BD, joint.weight_CD, tau, norms=norms_C)

    minimise(logits, [tau], train, config.learned, seed=seed, device=device, description="tau")
    refuse_divergence("tau.learned", tau)
    return float(tau.detach())
