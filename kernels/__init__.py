"""Features and class vectors in; logits, predictions, nearest classes and sums by class out, on a CPU or a GPU."""

from ltrsys.kernels.operations import ClassSums, class_sums, ncm_search, row_norms, tau_logits, tau_sweep
from ltrsys.kernels.reference import norm_factor, top_classes

__all__ = [
    "ClassSums",
    "class_sums",
    "ncm_search",
    "norm_factor",
    "row_norms",
    "tau_logits",
    "tau_sweep",
    "top_classes",
]
