"""Matrix products with a factor per class in plain torch: `tau_logits` and its gradients.

On a CPU, and on any device that the kernels are not for. N samples, C classes, D features.
"""

import torch
from torch import Tensor

ROWS_IN_CACHE = 64
"""Rows of a gradient and of logits that are multiplied at a time: with 8,142 classes a few MiB."""


def scaled_product(features_ND: Tensor, weight_CD: Tensor, factor_C: Tensor) -> Tensor:
    """Return (features @ weight.T) * factor in the type of the factor, [N, C]."""
    return (features_ND.to(factor_C.dtype) @ weight_CD.to(factor_C.dtype).T).mul_(factor_C)


def product_of_scaled(grad_NC: Tensor, factor_C: Tensor, weight_CD: Tensor) -> Tensor:
    """Return (grad * factor) @ weight in the type of the gradient, [N, D]: the gradient of the features."""
    return (grad_NC * factor_C) @ weight_CD.to(grad_NC.dtype)


def transposed_product(grad_NC: Tensor, features_ND: Tensor) -> Tensor:
    """Return grad.T @ features, [C, D], of which the gradients of weight, factor and tau are made."""
    return grad_NC.T @ features_ND.to(grad_NC.dtype)


def column_products(grad_NC: Tensor, logits_NC: Tensor) -> Tensor:
    """Return the sums of grad * logits over the rows, float64 [C]: the gradients of factor and tau are made of them."""
    sums_C = torch.zeros(grad_NC.shape[1], dtype=torch.float64, device=grad_NC.device)
    for grad, logits in zip(grad_NC.split(ROWS_IN_CACHE), logits_NC.split(ROWS_IN_CACHE), strict=True):
        sums_C += (grad * logits).sum(dim=0)
    return sums_C
