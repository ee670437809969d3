"""The operations of the second stage: `tau_logits`, `tau_sweep`, `ncm_search` and `class_sums`."""

from ltrsys.kernels.reference import class_sums, ncm_search, norm_factor, tau_logits, tau_sweep, top_classes

__all__ = ["class_sums", "ncm_search", "norm_factor", "tau_logits", "tau_sweep", "top_classes"]
