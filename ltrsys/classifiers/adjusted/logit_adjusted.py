"""Post-hoc logit adjustment: the joint classifier without what it knows of the class frequencies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn, Selection, ValSplit, best_of_grid
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.tilt import log_prior, tilted_predictions
from ltrsys.errors import UsageError
from ltrsys.section import Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class LogitAdjustedConfig(Section):
    """Post-hoc logit adjustment."""

    grid: list[float] = Field(default=[round(0.1 * step, 1) for step in range(21)], min_length=1)
    select_on: Literal["auto", "val", "none"] = "auto"
    """The best on val by `balance.select_by`; `none` is 1, which is right if the network's probabilities are. `auto`
    is val where there is a val split."""


@CLASSIFIERS.register
@dataclass(frozen=True)
class LogitAdjusted(Classifier[LogitAdjustedConfig]):
    """The joint logits less t log pi, pi_j the share of class j in the training images."""

    name = "logit_adjusted"
    summary = "the joint logits less a multiple of the logarithm of the class frequencies"
    source = "Menon et al., 2021, section 4.1"
    order = 45
    label, color, marker = "Logit-adjusted", "#CC79A7", "X"
    uses_joint = True
    calibration_folds = 0
    trained_as_softmax = True
    Config = LogitAdjustedConfig

    joint: Joint
    adjustment_C: Tensor
    """-t log pi."""
    t: float = 1.0
    selected_on: SelectedOn | None = None
    val_is_test: bool = False
    """Whether the val split it was selected on is the one that results are reported on."""

    @classmethod
    def selects_on(cls, config: LogitAdjustedConfig, val: ValSplit) -> Selection | None:
        """Say whether t is selected on val; never on the split that is reported, unless the config says so."""
        if config.select_on == "none" or (config.select_on == "auto" and val.name is None):
            return None
        if val.name is None:
            raise UsageError(
                f"balance.logit_adjusted.select_on=val: {val.dataset} has no val split that may be selected on. Use "
                "auto or none."
            )
        return Selection("val", val.name, val.is_reported)

    @classmethod
    def fit(cls, context: FitContext, config: LogitAdjustedConfig) -> Self:
        """Choose t: the best on val, the smallest of equals, or 1."""
        joint, log_prior_C = context.joint(), log_prior(context.train.class_counts)
        t, selection = 1.0, context.selection
        if context.val is not None:
            predictions = tilted_predictions(joint, context.val, log_prior_C, config.grid, context.device)
            scores = [context.score(row) for row in predictions]
            t = best_of_grid(config.grid, scores)
        where = selection.select_on if selection else None
        return cls(joint, -t * log_prior_C.to(context.device), t, where, bool(selection and selection.val_is_test))

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the adjusted logits, [N, C]."""
        return self.joint.scores(features_ND) + self.adjustment_C

    def class_frequencies(self, trained_C: NDArray[np.float64], train_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return those of the joint classifier over pi^t."""
        import numpy as np

        weights_C = trained_C / np.maximum(train_counts, 1) ** self.t
        return weights_C / weights_C.sum()

    def as_linear(self) -> tuple[Tensor, Tensor | None] | None:
        """Return the joint weights and the adjusted bias; None where the head is not linear."""
        if self.joint.head != "linear":
            return None
        bias_C = self.joint.bias_C
        return self.joint.weight_CD, self.adjustment_C if bias_C is None else bias_C + self.adjustment_C

    def weight(self) -> Tensor | None:
        """Return the weight vector of each class, as the joint classifier does."""
        return self.joint.weight()

    def params(self) -> dict[str, Any]:
        """Return t, that it was chosen on the test images if it was, and what the joint classifier says."""
        return {"t": self.t} | ({"val_is_test": True} if self.val_is_test else {}) | self.joint.params()

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say t and what it was chosen on."""
        where = ", chosen on val" if selected_on == "val" else ""
        warning = ", which is the reported split" if params.get("val_is_test") else ""
        return f"t = {params['t']:.4g}{where}{warning}"

    def tensors(self) -> dict[str, Tensor]:
        """Return those of the joint classifier, and the adjustment."""
        return self.joint.tensors() | {"adjustment": self.adjustment_C}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from these and t."""
        joint = Joint.restore(tensors, params, None)
        return cls(joint, tensors["adjustment"], float(params["t"]), selected_on, "val_is_test" in params)
