"""Long-tailed recognition: train on the data as it is, then re-balance the classifier alone."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltrsys.prediction.predictor import Predictor

__all__ = ["Predictor", "__version__"]

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for: `ltrsys --help` does without."""
    if name == "Predictor":
        return importlib.import_module("ltrsys.prediction.predictor").Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
