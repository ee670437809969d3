"""What is exported, and what runs an export.

N images, C classes, S their side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from ltrsys.export.folding import FoldedModel
    from ltrsys.prediction.loading import LoadedModel

Precision = Literal["float32", "float16", "int8"]

Runner = Callable[["Tensor"], "Tensor"]
"""Images as the exported model takes them, [N, 3, S, S], to probabilities, float32 [N, C]; both on the CPU."""


@dataclass(frozen=True)
class Subject:
    """What is exported."""

    model: LoadedModel
    folded: FoldedModel
    """Backbone and classifier of it as one module, in the precision that is wanted; for int8 in float32."""
    precision: Precision
    calibration_images: Tensor | None = None
    """For int8: images as the exported model takes them, [N, 3, S, S], from which the ranges of activations follow."""
