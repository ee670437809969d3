"""Several fitted classifiers that answer together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, Member, SelectedOn
from ltrsys.registry import nearest
from ltrsys.section import Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

NAME = "ensemble"


class EnsembleConfig(Section):
    """An ensemble."""

    classifiers: list[str] = Field(default=["ncm", "crt", "lda"], min_length=1)
    """Those that answer together, each fitted as its own section says."""

    @field_validator("classifiers")
    @classmethod
    def _can_be_members(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in CLASSIFIERS:
                reason = f"unknown classifier. {nearest(name, CLASSIFIERS.names()).rstrip('.')}"
            elif name == NAME or names.count(name) > 1:
                reason = "each member stands here once, and an ensemble is none"
            elif CLASSIFIERS.get(name).features != "last":
                reason = "takes features before the last ReLU, which the others do not. Leave it out"
            else:
                continue
            raise PydanticCustomError("member", "`{name}`: {reason}", {"name": name, "reason": reason})
        return names


@CLASSIFIERS.register
@dataclass(frozen=True)
class Ensemble(Classifier[EnsembleConfig]):
    """The mean of the log-probabilities of its members, each as sure as it is right by its temperature."""

    name = NAME
    summary = "the mean of the log-probabilities of several fitted classifiers, each calibrated"
    source = "Hinton, 2002, section 1 (product of experts); Guo et al., 2017, section 4.2"
    order = 90
    label, color, marker = "Ensemble", "#332288", "o"
    calibration_folds = 1
    Config = EnsembleConfig
    has_weight_norms = False

    parts: Mapping[str, Member]
    """By name."""

    @classmethod
    def members(cls, config: EnsembleConfig) -> tuple[str, ...]:
        """Return the members."""
        return tuple(config.classifiers)

    @classmethod
    def fit(cls, context: FitContext, config: EnsembleConfig) -> Self:
        """Take the members as they are fitted, with their temperatures on val, or on train by cross-validation."""
        assert context.member is not None
        return cls({name: context.member(name) for name in config.classifiers})

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the mean log-probabilities, [N, C]."""
        from ltrsys.models.scoring import mean_log_probabilities

        parts = self.parts.values()
        return mean_log_probabilities([(part.classifier.scores(features_ND), part.temperature) for part in parts])

    def module(self) -> nn.Module:
        """Return the modules of the members as one."""
        from ltrsys.models.scoring import MeanLogProbabilities

        parts = self.parts.values()
        return MeanLogProbabilities([(part.classifier.module(), part.temperature) for part in parts])

    def class_frequencies(self, trained_C: NDArray[np.float64], train_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the geometric mean of those of the members."""
        import numpy as np

        own = [part.classifier.class_frequencies(trained_C, train_counts) for part in self.parts.values()]
        with np.errstate(divide="ignore"):  # a class that was never trained on
            product_C = np.exp(np.mean(np.log(own), axis=0))
        frequencies: NDArray[np.float64] = product_C / product_C.sum()
        return frequencies

    def params(self) -> dict[str, Any]:
        """Return the members, what they say of themselves, and their temperatures."""
        return {"members": {name: _record(part) for name, part in self.parts.items()}}

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say the members."""
        return " + ".join(CLASSIFIERS.get(name).label for name in params["members"])

    def tensors(self) -> dict[str, Tensor]:
        """Return those of the members, by member."""
        return {
            f"{name}.{key}": tensor
            for name, part in self.parts.items()
            for key, tensor in part.classifier.tensors().items()
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from its members."""
        return cls({name: _restored(name, record, tensors) for name, record in params["members"].items()})


def _record(part: Member) -> dict[str, Any]:
    classifier = part.classifier
    return {
        "params": classifier.params(),
        "selected_on": classifier.selected_on,
        "temperature": part.temperature,
    }


def _restored(name: str, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Member:
    prefix = f"{name}."
    own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    classifier = CLASSIFIERS.get(name).restore(own, record["params"], record["selected_on"])
    return Member(classifier, float(record["temperature"]))
