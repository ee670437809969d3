"""The operations that the second stage, evaluation and prediction run on."""

from ltrsys.kernels.reference import class_sums, ncm_search, tau_logits, tau_sweep

__all__ = ["class_sums", "ncm_search", "tau_logits", "tau_sweep"]
