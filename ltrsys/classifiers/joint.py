"""The linear classifier, and the one that was trained jointly with the backbone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ltrsys.classifiers.base import Classifier, ClassifierName, SelectedOn
from ltrsys.errors import DataError
from ltrsys.kernels import top_classes
from ltrsys.models.weights import load_tensors


@dataclass(frozen=True)
class LinearClassifier(Classifier):
    """Logits W z + b."""

    weight_CD: Tensor
    bias_C: Tensor | None

    def logits(self, features_ND: Tensor) -> Tensor:
        """Return the logits, [N, C]."""
        return torch.nn.functional.linear(features_ND, self.weight_CD, self.bias_C)

    def rank(self, features_ND: Tensor, k: int) -> Tensor:
        """Return the k classes of the highest logits."""
        return top_classes(self.logits(features_ND), k)

    def weight(self) -> Tensor:
        """Return W."""
        return self.weight_CD

    def params(self) -> dict[str, Any]:
        """Return nothing: it has no hyper-parameter."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Return W and, if it has one, b."""
        return {"weight": self.weight_CD} | ({} if self.bias_C is None else {"bias": self.bias_C})

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from W and b."""
        return cls(tensors["weight"], tensors.get("bias"))


@dataclass(frozen=True)
class Joint(LinearClassifier):
    """The classifier as trained together with the backbone: the baseline."""

    name: ClassVar[ClassifierName] = "joint"

    @classmethod
    def of_model(cls, path: Path, device: torch.device) -> "Joint":
        """Take the classifier out of a run's `model.safetensors`.

        Raises:
            DataError: Where the file is damaged, lacks the classifier, or holds NaN.
        """
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
