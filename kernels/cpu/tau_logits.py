"""Matrix products with a factor per class in plain torch: `tau_logits` and its gradients.

On a CPU, and on any device that the kernels are not for. N samples, C classes, D features.
"""

from torch import Tensor


def scaled_product(features_ND: Tensor, weight_CD: Tensor, factor_C: Tensor) -> Tensor:
    """Return (features @ weight.T) * factor in the type of the factor, [N, C]."""
    return (features_ND.to(factor_C.dtype) @ weight_CD.to(factor_C.dtype).T).mul_(factor_C)


def product_of_scaled(grad_NC: Tensor, factor_C: Tensor, weight_CD: Tensor) -> Tensor:
    """Return (grad * factor) @ weight in the type of the gradient, [N, D]: the gradient of the features."""
    return (grad_NC * factor_C) @ weight_CD.to(grad_NC.dtype)


def transposed_product(grad_NC: Tensor, features_ND: Tensor) -> Tensor:
    """Return grad.T @ features, [C, D], of which the gradients of weight, factor and tau are made."""
    return grad_NC.T @ features_ND.to(grad_NC.dtype)
