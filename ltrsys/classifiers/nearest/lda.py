"""Linear discriminant analysis on the bank: class means and one covariance, in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from ltrsys.classifiers.base import CLASSIFIERS, FitContext, SelectedOn, predicted, tried
from ltrsys.classifiers.joint import LinearClassifier
from ltrsys.errors import DataError
from ltrsys.section import Fraction, Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ltrsys.features.bank import BankSplit
    from ltrsys.features.covariance import Spread


class LDAConfig(Section):
    """Linear discriminant analysis."""

    shrinkage: Literal["ledoit_wolf"] | Fraction = "ledoit_wolf"
    """How far the covariance is drawn to a multiple of the identity: 0 not at all, 1 wholly; or what Ledoit and Wolf's
    formula gives."""
    covariance: Literal["classes", "images"] = "classes"
    """What counts alike in it: the covariance of each class, as in scikit-learn with equal priors, or each image."""


@CLASSIFIERS.register
@dataclass(frozen=True)
class LinearDiscriminant(LinearClassifier[LDAConfig]):
    """The class with the highest density, if all are Gaussian with one covariance S, and equally frequent.

    With the class means m_j, and m the mean of these, (m_j - m)' S^-1 (x - m) - (m_j - m)' S^-1 (m_j - m) / 2: the
    logarithm of the density less what is the same for all classes.
    """

    name = "lda"
    summary = "the class with the highest Gaussian density: means and one shrunk covariance, in closed form"
    source = "Fisher, 1936; shrinkage: Ledoit and Wolf, 2004"
    order = 12
    label, color, marker = "LDA", "#AA4499", "d"
    trained_as_softmax = False
    has_weight_norms = False  # the inverse covariance stretches them
    Config = LDAConfig
    grid = tried(shrinkage=("ledoit_wolf", 0.01, 0.1, 0.5), covariance=("classes", "images"))

    spread: Spread
    """What new classes are added to."""
    shrinkage: float
    config: LDAConfig

    @classmethod
    def fit(cls, context: FitContext, config: LDAConfig) -> Self:
        """Measure means and covariance in one pass over the bank.

        Raises:
            DataError: Where the covariance is singular.
        """
        from ltrsys.features.covariance import Spread

        alike = config.covariance == "classes"
        spread = Spread.of_bank(context.train, context.device, each_class_alike=alike)
        return cls._shrunk(spread, context, config)

    @classmethod
    def sweep(cls, context: FitContext, configs: Sequence[LDAConfig], split: BankSplit) -> NDArray[np.int64]:
        """Measure the covariance once for each way to count; only the shrinkages differ then."""
        import numpy as np

        from ltrsys.features.covariance import Spread

        spreads = {
            way: Spread.of_bank(context.train, context.device, each_class_alike=way == "classes")
            for way in sorted({config.covariance for config in configs})
        }
        fits = [partial(cls._shrunk, spreads[config.covariance], context, config) for config in configs]
        return np.stack([predicted(fit, split, context.device) for fit in fits])

    @classmethod
    def _shrunk(cls, spread: Spread, context: FitContext, config: LDAConfig) -> Self:
        shrinkage = spread.ledoit_wolf(context.train) if config.shrinkage == "ledoit_wolf" else config.shrinkage
        return cls._of(spread, shrinkage, config)

    @classmethod
    def _of(cls, spread: Spread, shrinkage: float, config: LDAConfig) -> Self:
        import torch

        from ltrsys.features.covariance import shrunk

        factor_DD, singular = torch.linalg.cholesky_ex(shrunk(spread.covariance_DD, shrinkage))
        if singular:
            raise DataError(
                f"lda: the covariance of these features is singular with balance.lda.shrinkage={shrinkage:g}. Give a "
                "higher one, such as 0.1."
            )
        present_C = spread.counts_C > 0
        origin_D = spread.means_CD[present_C].mean(dim=0)
        deviations_CD = (spread.means_CD - origin_D).masked_fill(~present_C[:, None], 0)
        weight_CD = torch.cholesky_solve(deviations_CD.T, factor_DD).T
        bias_C = -(weight_CD @ origin_D) - (weight_CD * deviations_CD).sum(dim=1) / 2
        return cls(
            weight_CD.float().contiguous(),
            bias_C.masked_fill(~present_C, -torch.inf).float(),
            spread,
            float(shrinkage),
            config,
        )

    def with_classes(self, features_ND: Tensor, labels_N: Tensor, num_new: int) -> Self:
        """Return it with more classes; they add to the covariance too, and the shrinkage stays as it is."""
        return self._of(self.spread.with_classes(features_ND, labels_N, num_new), self.shrinkage, self.config)

    def params(self) -> dict[str, Any]:
        """Return the shrinkage, as a number and as it was asked for, and what counts alike in the covariance."""
        return {
            "shrinkage": self.shrinkage,
            "shrinkage_by": self.config.shrinkage if self.config.shrinkage == "ledoit_wolf" else "given",
            "covariance": self.config.covariance,
        }

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say the shrinkage."""
        by = " by Ledoit and Wolf" if params["shrinkage_by"] == "ledoit_wolf" else ""
        return f"shrinkage {params['shrinkage']:.3g}{by}"

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, and the means, counts and deviations that new classes are added to."""
        spread = self.spread
        return super().tensors() | {
            "means": spread.means_CD,
            "counts": spread.counts_C,
            "scatter": spread.scatter_DD,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from these."""
        from ltrsys.features.covariance import Spread

        alike = params["covariance"] == "classes"
        spread = Spread(tensors["means"], tensors["counts"], tensors["scatter"], each_class_alike=alike)
        shrinkage = float(params["shrinkage"])
        config = LDAConfig(
            shrinkage="ledoit_wolf" if params["shrinkage_by"] == "ledoit_wolf" else shrinkage,
            covariance=params["covariance"],
        )
        return cls(tensors["weight"], tensors["bias"], spread, shrinkage, config)
