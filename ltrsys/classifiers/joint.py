"""The classifier that was trained jointly with the backbone, and what all linear classifiers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn
from ltrsys.errors import DataError
from ltrsys.models.config import HeadName
from ltrsys.section import Section

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from ltrsys.models.memory import Memory

C = TypeVar("C", bound=Section)

TENSORS: dict[HeadName, tuple[str, ...]] = {
    "none": (),
    "linear": ("weight", "bias"),
    "cosine": ("weight", "scale"),
    "oltr_cosine": ("weight",),
    "oltr_memory": (
        "weight",
        "centroids",
        "hallucinator.weight",
        "hallucinator.bias",
        "selector.weight",
        "selector.bias",
    ),
}
"""What a model's file holds of each head."""


@dataclass(frozen=True)
class LinearClassifier(Classifier[C]):
    """Logits W z + b."""

    trained_as_softmax = True

    weight_CD: Tensor
    bias_C: Tensor | None

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the logits, [N, C]."""
        from torch.nn import functional

        return functional.linear(features_ND, self.weight_CD, self.bias_C)

    def as_linear(self) -> tuple[Tensor, Tensor | None] | None:
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
    uses_joint = True
    calibration_folds = 0

    head: HeadName = "linear"
    """`model.head`; but for `linear` there is no bias."""
    scale: Tensor | None = None
    """The factor of a cosine head, [1]."""
    memory: Memory | None = None
    """What `oltr_memory` adds to a feature."""

    @classmethod
    def fit(cls, context: FitContext, config: Section) -> Self:
        """Take it as it is."""
        joint = context.joint()
        return cls(joint.weight_CD, joint.bias_C, joint.head, joint.scale, joint.memory)

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the logits of its head, [N, C]."""
        from ltrsys.models.heads import cosine_logits, oltr_logits

        if self.memory is not None:
            return oltr_logits(self.memory.recall(features_ND), self.weight_CD)
        if self.head == "oltr_cosine":
            return oltr_logits(features_ND, self.weight_CD)
        if self.scale is not None:
            return cosine_logits(features_ND, self.weight_CD, self.scale)
        return super().scores(features_ND)

    def as_linear(self) -> tuple[Tensor, Tensor | None] | None:
        """Return W and b; None where the head is not linear."""
        return super().as_linear() if self.head == "linear" else None

    def class_frequencies(self, trained_C: NDArray[np.float64], train_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the frequencies that it was trained with."""
        return trained_C

    def weight(self) -> Tensor | None:
        """Return W, or None where the logits do not depend on the lengths of its rows."""
        return self.weight_CD if self.head == "linear" else None

    def params(self) -> dict[str, Any]:
        """Return the head, if it is not linear."""
        return {} if self.head == "linear" else {"head": self.head}

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say the head, if it is not linear."""
        return str(params.get("head", ""))

    def tensors(self) -> dict[str, Tensor]:
        """Return W and, if it has them, b, the scale and the memory."""
        scale = {} if self.scale is None else {"scale": self.scale}
        return super().tensors() | scale | ({} if self.memory is None else self.memory.tensors())

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from these."""
        return cls._of(tensors, params.get("head", "linear"))

    @classmethod
    def of_model(cls, path: Path, device: torch.device, head: HeadName = "linear") -> Self:
        """Take the classifier out of a run's `model.safetensors`.

        Args:
            path: The file.
            device: Where it is wanted.
            head: `model.head` of the run.

        Raises:
            DataError: Where the file is damaged, lacks the classifier, or holds NaN.
        """
        import torch

        from ltrsys.models.stored.weights import load_tensors

        tensors = load_tensors(path)
        own = {}
        for name in TENSORS[head]:
            stored = f"classifier.{name}"
            if stored not in tensors:
                raise DataError(f"{path}: tensor `{stored}` is missing: this is not the model of a run.")
            if not torch.isfinite(tensors[stored]).all():
                raise DataError(
                    f"{path}: tensor `{stored}` holds NaN or infinity: the training has diverged. Train again."
                )
            own[name] = tensors[stored].float().to(device)
        return cls._of(own, head)

    @classmethod
    def _of(cls, tensors: Mapping[str, Tensor], head: HeadName) -> Self:
        from ltrsys.models.memory import Memory

        memory = Memory.of(tensors) if head == "oltr_memory" else None
        return cls(tensors["weight"], tensors.get("bias"), head, tensors.get("scale"), memory)
