"""What every loss of the first stage is: its settings, and the function that they and the class counts give.

B samples, C classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ltrsys.method_section import MethodSection
from ltrsys.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

LossFunction = Callable[["Tensor", "Tensor"], "Tensor"]
"""Float32 logits [B, C] and class ids, int64 [B], to the mean loss of the samples, []."""


@dataclass(frozen=True)
class LossContext:
    """What a loss may depend on beside its own settings."""

    class_counts: NDArray[np.int64]
    """Training images of each class, int64 [C]."""
    label_smoothing: float
    """`train.label_smoothing`."""
    device: torch.device
    """Where the logits will be."""


class Loss(MethodSection):
    """What the first stage minimises: the section `train.loss`."""

    @abstractmethod
    def build(self, context: LossContext) -> LossFunction:
        """Return the loss.

        It is called in every micro-batch, and must not wait for a GPU: tensors that it needs are made here.
        """


LOSSES: Registry[type[Loss]] = Registry("loss", "ltrsys.training.losses")
