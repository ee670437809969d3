"""The four operations as torch knows them, `torch.ops.ltrsys.*`: by device, for tracing, and for the backward pass.

Shapes and types have been checked; values are checked here, so that a traced program checks them too. A CPU and a GPU
compute each in their own way; any other device has `reference`. N samples, C classes, D features, T values of tau.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from ltrsys.kernels import reference
from ltrsys.kernels.checks import (
    check_factors,
    check_finite,
    check_label_range,
    check_rows_of_a_class,
    ends_of,
    known_metric,
    on_host,
)
from ltrsys.kernels.cpu import class_sums as class_sums_on_cpu
from ltrsys.kernels.cpu import tau_logits as products_in_torch
from ltrsys.kernels.cpu.ncm_search import ncm_search as ncm_search_on_cpu
from ltrsys.kernels.cpu.tau_sweep import tau_sweep as tau_sweep_on_cpu
from ltrsys.kernels.devices import current_device, runs_triton
from ltrsys.kernels.reference import result_type
from ltrsys.kernels.reproducible_sums import Quantum

ROWS_IN_FLOAT64 = 1024
"""Rows of a matrix of which a copy in float64 is held at a time: 16 MB of 2,048 features."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _shielded(compute: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let an implementation compute in the types that it names, on the GPU that its inputs are on.

    Autocast would make its float32 products bfloat16, and kernels would be launched on whatever GPU is the current one.
    """

    @functools.wraps(compute)
    def computed(*inputs: Parameters.args, **named: Parameters.kwargs) -> Result:
        device = next(values.device for values in (*inputs, *named.values()) if isinstance(values, Tensor))
        with torch.autocast(device.type, enabled=False), current_device(device):
            return compute(*inputs, **named)

    return computed


@torch.library.custom_op("ltrsys::row_norms", mutates_args=())
@_shielded
def row_norms(weight: Tensor) -> Tensor:
    """See `ltrsys.kernels.row_norms`; some rows at a time are held in float64."""
    parts = weight.split(ROWS_IN_FLOAT64)
    return torch.cat([torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in parts])


@row_norms.register_fake
def _(weight: Tensor) -> Tensor:
    return weight.new_empty(weight.shape[0], dtype=torch.float64)


@torch.library.custom_op("ltrsys::tau_logits", mutates_args=())
@_shielded
def tau_logits(
    features: Tensor, weight: Tensor, norms: Tensor | None, tau: Tensor | None, scale: Tensor | None
) -> Tensor:
    """See `ltrsys.kernels.tau_logits`; `norms` are there where a tau is, or else say that the weight is finite."""
    dtype = result_type(features, weight)
    factor = _factor(_norm_factor(weight, norms, tau), scale)
    # a row that holds NaN or infinity has such a norm, and norms are fewer to look at
    of_features, of_weight, held = on_host(
        ends_of(features), ends_of(weight if norms is None else norms), _held(factor, dtype)
    )
    check_finite(features, "features", of_features)
    check_finite(weight, "weight", of_weight)
    wide = dtype if all(held) else torch.float64
    return _products(features.device, wide).scaled_product(features, weight, factor.to(wide)).to(dtype)


@tau_logits.register_fake
def _(features: Tensor, weight: Tensor, norms: Tensor | None, tau: Tensor | None, scale: Tensor | None) -> Tensor:
    return features.new_empty(features.shape[0], weight.shape[0], dtype=result_type(features, weight))


@torch.library.custom_op("ltrsys::tau_logits_backward", mutates_args=())
@_shielded
def tau_logits_backward(
    gradient: Tensor,
    logits: Tensor,
    features: Tensor,
    weight: Tensor,
    norms: Tensor | None,
    tau: Tensor | None,
    scale: Tensor | None,
    to_features: bool,
    to_weight: bool,
    to_factor: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Return the gradients of features [N, D], weight [C, D], tau [] and scale [C].

    With G the gradient of the logits Z, which are f_j s_j (x.w_j), f_j = |w_j|^-tau, s_j the scale and P = G^T X:

        dX = (G * f s) W             d(f_j s_j) = sum_n G_nj (x_n.w_j) = sum_n G_nj Z_nj / (f_j s_j) = w_j . P_j
        dW_j = f_j s_j P_j + d(f_j s_j) s_j df_j/dw_j       df_j/dw_j = -tau |w_j|^(-tau - 2) w_j
        ds_j = d(f_j s_j) f_j        dtau = - sum_j d(f_j s_j) s_j f_j log|w_j|

    so that scale and tau need no product: only the weight does. What is not wanted comes back empty.
    """
    dtype = gradient.dtype
    norm_factor = _norm_factor(weight, norms, tau)
    factor = _factor(norm_factor, scale)
    held, vanishing = on_host(_held(factor, dtype), (factor == 0).any()[None])
    wide = dtype if all(held) else torch.float64
    wide_gradient, wide_factor = gradient.to(wide), factor.to(wide)
    products = _products(gradient.device, wide)
    of_features, of_weight = gradient.new_empty(0), gradient.new_empty(0)
    if to_features:
        of_features = products.product_of_scaled(wide_gradient, wide_factor, weight).to(dtype)
    # of a factor that is 0, or that float32 cannot hold, the logits do not tell the products
    from_logits = all(held) and not any(vanishing)
    if not (to_weight or to_factor):
        return of_features, of_weight, gradient.new_empty(0), gradient.new_empty(0)
    product = None
    if to_weight or not from_logits:
        product = products.transposed_product(wide_gradient, features)
    if from_logits:
        of_factor = products.column_products(gradient, logits) / factor
    else:
        assert product is not None
        of_factor = _row_products(weight, product)
    scaled, of_tau = of_factor * factor, gradient.new_zeros(())
    if tau is not None:
        assert norms is not None
        of_tau = -(scaled * torch.where(norms > 0, norms, 1.0).log()).sum().to(dtype)
    if to_weight:
        assert product is not None
        of_weight = product.mul_(wide_factor[:, None])
        if tau is not None:
            assert norms is not None
            along = torch.where(norms > 0, scaled * tau / norms.square(), 0.0)
            of_weight.addcmul_(weight.to(wide), along.to(wide)[:, None], value=-1)
        of_weight = of_weight.to(dtype)
    return of_features, of_weight, of_tau, (of_factor * norm_factor).to(dtype)


@tau_logits_backward.register_fake
def _(
    gradient: Tensor,
    logits: Tensor,
    features: Tensor,
    weight: Tensor,
    norms: Tensor | None,
    tau: Tensor | None,
    scale: Tensor | None,
    to_features: bool,
    to_weight: bool,
    to_factor: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    of_features = gradient.new_empty(features.shape if to_features else 0)
    of_weight = gradient.new_empty(weight.shape if to_weight else 0)
    if not (to_weight or to_factor):
        return of_features, of_weight, gradient.new_empty(0), gradient.new_empty(0)
    return of_features, of_weight, gradient.new_empty(()), gradient.new_empty(weight.shape[0])


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    logits, *inputs = ctx.saved_tensors
    to_features, to_weight, _, to_tau, to_scale = ctx.needs_input_grad
    of_features, of_weight, of_tau, of_scale = tau_logits_backward(
        gradient.contiguous(), logits, *inputs, to_features, to_weight, to_tau or to_scale
    )
    features, weight, _, tau, scale = inputs
    return (
        of_features.to(features.dtype) if to_features else None,
        of_weight.to(weight.dtype) if to_weight else None,
        None,
        of_tau.to(tau.dtype) if to_tau else None,
        of_scale.to(scale.dtype) if to_scale else None,
    )


tau_logits.register_autograd(_backward, setup_context=_save_for_backward)


@torch.library.custom_op("ltrsys::tau_sweep", mutates_args=())
@_shielded
def tau_sweep(features: Tensor, weight: Tensor, taus: Tensor) -> Tensor:
    """See `ltrsys.kernels.tau_sweep`."""
    factors = reference.norm_factors(weight, taus)
    of_features, of_weight, tau_of, least, most = on_host(
        ends_of(features), ends_of(weight), taus, *factors.aminmax(dim=1)
    )
    check_finite(features, "features", of_features)
    check_finite(weight, "weight", of_weight)
    check_factors(tau_of, least, most)
    if features.device.type == "cpu":
        return tau_sweep_on_cpu(features, weight, taus, factors)
    if _has_kernels(features.device, result_type(features, weight)):
        from ltrsys.kernels.gpu.tau_sweep import tau_sweep as fused

        return fused(features.contiguous(), weight.contiguous(), factors)
    return reference.tau_sweep(features, weight, taus)


@tau_sweep.register_fake
def _(features: Tensor, weight: Tensor, taus: Tensor) -> Tensor:
    return features.new_empty(taus.shape[0], features.shape[0], dtype=torch.int64)


@torch.library.custom_op("ltrsys::ncm_search", mutates_args=())
@_shielded
def ncm_search(
    features: Tensor, class_means: Tensor, k: int, metric: str, center: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `ltrsys.kernels.ncm_search`."""
    inputs = {"features": features, "class_means": class_means}
    if center is not None:
        inputs["center"] = center
    for (name, values), ends in zip(inputs.items(), on_host(*map(ends_of, inputs.values())), strict=True):
        check_finite(values, name, ends)
    known = known_metric(metric)
    if features.device.type == "cpu":
        return ncm_search_on_cpu(features, class_means, k, known, center)
    if _has_kernels(features.device, result_type(features, class_means)):
        from ltrsys.kernels.gpu.ncm_search import ncm_search as fused

        return fused(features.contiguous(), class_means.contiguous(), k, known, center)
    return reference.ncm_search(features, class_means, k, known, center)


@ncm_search.register_fake
def _(features: Tensor, class_means: Tensor, k: int, metric: str, center: Tensor | None) -> tuple[Tensor, Tensor]:
    scores = features.new_empty(features.shape[0], k, dtype=result_type(features, class_means))
    return scores, torch.empty_like(scores, dtype=torch.int64)


@torch.library.custom_op("ltrsys::class_sums", mutates_args=())
@_shielded
def class_sums(
    features: Tensor, labels: Tensor, num_classes: int, normalize: bool, center: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `ltrsys.kernels.class_sums`."""
    counts = _counts(labels, num_classes)
    of_features, of_labels, (most,), *of_center = on_host(
        ends_of(features), ends_of(labels), ends_of(counts)[1:], *(() if center is None else (ends_of(center),))
    )
    largest = check_finite(features, "features", of_features)
    if center is not None:
        largest += check_finite(center, "center", *of_center)
    check_label_range(labels, num_classes, of_labels)
    quantum = Quantum.of(1.0 if normalize else largest, int(most))
    if features.device.type == "cpu":
        return class_sums_on_cpu.class_totals(features, labels, num_classes, quantum, normalize, center), counts
    sums = torch.zeros(num_classes, features.shape[1], dtype=torch.float64, device=features.device)
    _accumulate(sums, features, labels, quantum, normalize, center)
    return sums.to(result_type(features)), counts


@class_sums.register_fake
def _(
    features: Tensor, labels: Tensor, num_classes: int, normalize: bool, center: Tensor | None
) -> tuple[Tensor, Tensor]:
    sums = features.new_empty(num_classes, features.shape[1], dtype=result_type(features))
    return sums, labels.new_empty(num_classes)


@torch.library.custom_op("ltrsys::add_class_sums", mutates_args={"sums", "counts"})
@_shielded
def add_class_sums(
    sums: Tensor,
    counts: Tensor,
    features: Tensor,
    labels: Tensor,
    quantum: float,
    largest: float,
    num_rows: int,
    normalize: bool,
    center: Tensor | None,
) -> None:
    """Add features to sums, float64 [C, D], and counts, int64 [C]; see `ltrsys.kernels.ClassSums`."""
    counts_now = counts + _counts(labels, len(counts))
    of_features, of_labels, (most,) = on_host(ends_of(features), ends_of(labels), ends_of(counts_now)[1:])
    magnitude = check_finite(features, "features", of_features)
    if not normalize and magnitude > largest:
        raise ValueError(f"features reach {magnitude:.6g}, above the {largest:.6g} that the sums were made for.")
    check_label_range(labels, len(counts), of_labels)
    check_rows_of_a_class(counts_now, num_rows, most)
    counts.copy_(counts_now)
    _accumulate(sums, features, labels, Quantum(quantum), normalize, center)


def _accumulate(
    sums: Tensor, features: Tensor, labels: Tensor, quantum: Quantum, normalize: bool, center: Tensor | None
) -> None:
    if features.device.type == "cuda":
        from ltrsys.kernels.gpu.class_sums import class_sums as fused

        wide_center = None if center is None else center.double()
        sums += fused(features.contiguous(), labels, len(sums), quantum.value, normalize, wide_center)
    elif features.device.type == "cpu":
        class_sums_on_cpu.add_class_sums(sums, features, labels, quantum, normalize, center)
    else:
        reference.add_class_sums(sums, features, labels, quantum, normalize, center)


def _counts(labels: Tensor, num_classes: int) -> Tensor:
    """Count the labels of each class, int64 [C]; labels out of range, which are refused later, count as the nearest.

    `torch.bincount` would bring the lowest and the highest label of a GPU to the host, twice.
    """
    counts = torch.zeros(max(1, num_classes), dtype=torch.int64, device=labels.device)
    counts.scatter_add_(0, labels.clamp(0, len(counts) - 1), torch.ones_like(labels))
    return counts[:num_classes]


def _norm_factor(weight: Tensor, norms: Tensor | None, tau: Tensor | None) -> Tensor:
    """Return |w_j|^-tau, float64 [C]; 1 without a tau, and for a row of zeros, whose logit is 0 anyway."""
    if tau is None:
        return torch.ones(len(weight), dtype=torch.float64, device=weight.device)
    assert norms is not None
    return torch.where(norms > 0, norms, 1.0) ** -tau.double()


def _factor(norm_factor: Tensor, scale: Tensor | None) -> Tensor:
    """Return the norm's factor times the scale, float64 [C]."""
    return norm_factor if scale is None else norm_factor * scale


def _row_products(weight: Tensor, product: Tensor) -> Tensor:
    """Return w_j . P_j, float64 [C]; a few rows at a time are held in float64."""
    parts = zip(weight.split(ROWS_IN_FLOAT64), product.split(ROWS_IN_FLOAT64), strict=True)
    return torch.cat([(one.double() * other.double()).sum(dim=1) for one, other in parts])


def _held(factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Say whether a type has such factors, bool [1]: not those of very short or long weights and high tau.

    Where it has not, float64 is computed in.
    """
    magnitude = factor.abs()
    limits = torch.finfo(dtype)
    held = (magnitude == 0) | ((magnitude >= limits.tiny) & (magnitude <= limits.max))
    return held.all()[None]


class _Products(Protocol):
    """The products of `tau_logits` and its gradients, as a module of `cpu` or `gpu` has them."""

    def scaled_product(self, features_ND: Tensor, weight_CD: Tensor, factor_C: Tensor) -> Tensor: ...

    def product_of_scaled(self, grad_NC: Tensor, factor_C: Tensor, weight_CD: Tensor) -> Tensor: ...

    def transposed_product(self, grad_NC: Tensor, features_ND: Tensor) -> Tensor: ...

    def column_products(self, grad_NC: Tensor, logits_NC: Tensor) -> Tensor: ...


def _products(device: torch.device, dtype: torch.dtype) -> _Products:
    """Return what multiplies in a type on a device."""
    if not _has_kernels(device, dtype):
        return products_in_torch
    from ltrsys.kernels.gpu import tau_logits as products_of_kernels

    return products_of_kernels


def _has_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether Triton's kernels compute what is of a type on a device: float32, from inputs that may be narrower."""
    return runs_triton(device) and dtype == torch.float32
