"""The operations of the second stage: `tau_logits`, `tau_sweep`, `ncm_search` and `class_sums`."""

from ltrsys.kernels.operations import class_sums, ncm_search, tau_logits, tau_sweep
from ltrsys.kernels.reference import norm_factor, top_classes
from ltrsys.kernels.streaming import ClassSums

__all__ = ["ClassSums", "class_sums", "ncm_search", "norm_factor", "tau_logits", "tau_sweep", "top_classes"]
