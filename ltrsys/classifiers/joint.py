"""The classifier that was trained jointly with the backbone, and what all linear classifiers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn
from ltrsys.errors import DataError
from ltrsys.section import Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor

C = TypeVar("C", bound=Section)


@dataclass(frozen=True)
class LinearClassifier(Classifier[C]):
    """Logits W z + b."""

    weight_CD: Tensor
    bias_C: Tensor | None

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the logits, [N, C]."""
        from torch.nn import functional

        return functional.linear(features_ND, self.weight_CD, self.bias_C)

    def as_linear(self) -> tuple[Tensor, Tensor | None]:
        """Return W and b."""
        return self.weight_CD, self.bias_C

    def tensors(self) -> dict[str, Tensor]:
        """Return W and, if it has one, b."""
        return {"weight": self.weight_CD} | ({} if self.bias_C is None else {"bias": self.bias_C})

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from W and b."""
        return cls(tensors["weight"], tensors.get("bias"))


@CLASSIFIERS.register
@dataclass(frozen=True)
class Joint(LinearClassifier[Section]):
    """The classifier as trained together with the backbone: the baseline."""

    name = "joint"
    summary = "the classifier as it was trained together with the backbone: the baseline"
    source = "Kang et al., 2020, section 3"
    order = 0
    label, color, marker = "Joint", "#0072B2", "o"

    @classmethod
    def fit(cls, context: FitContext, config: Section) -> Self:
        """Take it as it is."""
        joint = context.joint()
        return cls(joint.weight_CD, joint.bias_C)

    @classmethod
    def of_model(cls, path: Path, device: torch.device) -> Joint:
        """Take the classifier out of a run's `model.safetensors`.

        Raises:
            DataError: Where the file is damaged, lacks the classifier, or holds NaN.
        """
        import torch

        from ltrsys.models.weights import load_tensors

        tensors = load_tensors(path)
        own = []
        for name in ("classifier.weight", "classifier.bias"):
            if name not in tensors:
                raise DataError(f"{path}: tensor `{name}` is missing: this is not the model of a run.")
            if not torch.isfinite(tensors[name]).all():
                raise DataError(
                    f"{path}: tensor `{name}` holds NaN or infinity: the training has diverged. Train again."
                )
            own.append(tensors[name].float().to(device))
        return cls(*own)
