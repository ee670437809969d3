r"""Matrix products with a factor per class, in the accuracy of float32: `tau_logits` and its gradients.

N samples, C classes, D features; M rows, J columns and K terms of a product.

Tensor cores multiply TF32, which has 11 significant bits. Each float32 number a is split into a' + a'', both rounded
to TF32, so that |a - a' - a''| <= 2^-22 |a|, and

    a b = a'b' + a'b'' + a''b' + error,    |error| <= 3 * 2^-22 |a b| (to first order):

what is dropped is a''b'' and what the second rounding takes from a and from b. Products of TF32 numbers are exact in
the float32 accumulators. Adding K terms there errs by up to K * 2^-24 of the sum of their sizes, and by about
sqrt(K) * 2^-24 where rounding is random: from K = 144 on, that is more than the splitting takes. Three products of TF32
take less time than one of float32 on the other cores of every GPU since 8.0.
"""

from typing import Any

import torch
import triton
from torch import Tensor
from triton import language as tl

from ltrsys.kernels.gpu.prepared_rows import aligned_rows
from ltrsys.kernels.gpu.tiles import BAND, Tile, Tiles, is_interpreted, num_programs, tile_of_program, tiles_of
from ltrsys.kernels.gpu.variants import Variant, pointer, scalar

WHOLE_TERMS = 64
"""Features are padded to a multiple of this, so that no tile of a sum over them is cut."""


def scaled_product(features_ND: Tensor, weight_CD: Tensor, factor_C: Tensor) -> Tensor:
    """Return (features @ weight.T) * factor, [N, C]: float64 where an input is, else float32."""
    if torch.float64 in (features_ND.dtype, weight_CD.dtype, factor_C.dtype):
        return (features_ND.double() @ weight_CD.double().T) * factor_C
    dtype = features_ND.dtype if features_ND.dtype == weight_CD.dtype else torch.float32
    features_ND, weight_CD = (aligned_rows(rows, dtype, WHOLE_TERMS) for rows in (features_ND, weight_CD))
    return _product(features_ND, weight_CD.T, column_factor_J=factor_C)


def product_of_scaled(grad_NC: Tensor, factor_C: Tensor, weight_CD: Tensor) -> Tensor:
    """Return (grad * factor) @ weight, [N, D]: the gradient of the features."""
    if torch.float64 in (grad_NC.dtype, factor_C.dtype, weight_CD.dtype):
        return (grad_NC.double() * factor_C) @ weight_CD.double()
    product_NP = _product(grad_NC.float(), aligned_rows(weight_CD, torch.float32), inner_factor_K=factor_C)
    return product_NP[:, : weight_CD.shape[1]].contiguous()


def transposed_product(grad_NC: Tensor, features_ND: Tensor) -> Tensor:
    """Return grad.T @ features, [C, D], of which the gradients of weight, factor and tau are made."""
    if torch.float64 in (grad_NC.dtype, features_ND.dtype):
        return grad_NC.double().T @ features_ND.double()
    product_CP = _product(grad_NC.float().T, aligned_rows(features_ND, torch.float32))
    return product_CP[:, : features_ND.shape[1]].contiguous()


def column_products(grad_NC: Tensor, logits_NC: Tensor) -> Tensor:
    """Return the sums of grad * logits over the rows, float64 [C]: the gradients of factor and tau are made of them."""
    return (grad_NC * logits_NC).sum(dim=0).double()


def _product(
    left_MK: Tensor, right_KJ: Tensor, *, inner_factor_K: Tensor | None = None, column_factor_J: Tensor | None = None
) -> Tensor:
    num_rows, num_terms = left_MK.shape
    num_columns = right_KJ.shape[1]
    out_MJ = torch.empty(num_rows, num_columns, dtype=torch.float32, device=left_MK.device)
    if not out_MJ.numel():
        return out_MJ
    split = left_MK.dtype == torch.float32
    tiles = tiles_of(left_MK.device)
    tile = tiles.split if split else tiles.narrow
    factor = inner_factor_K if column_factor_J is None else column_factor_J
    _scaled_product[(num_programs(num_rows, num_columns, tile),)](
        left_MK,
        right_KJ,
        left_MK if factor is None else factor.float().contiguous(),
        out_MJ,
        num_rows,
        num_columns,
        num_terms,
        *left_MK.stride(),
        *right_KJ.stride(),
        SPLIT=split,
        WHOLE=column_factor_J is not None,
        INNER_FACTOR=inner_factor_K is not None,
        COLUMN_FACTOR=column_factor_J is not None,
        **_constants(tile),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return out_MJ


@triton.jit(do_not_specialize=["num_rows", "num_columns", "num_terms"])
def _scaled_product(
    left_ptr: tl.tensor,
    right_ptr: tl.tensor,
    factor_ptr: tl.tensor,
    out_ptr: tl.tensor,
    num_rows: tl.tensor,
    num_columns: tl.tensor,
    num_terms: tl.tensor,
    left_row_stride: tl.tensor,
    left_term_stride: tl.tensor,
    right_term_stride: tl.tensor,
    right_column_stride: tl.tensor,
    SPLIT: tl.constexpr,
    WHOLE: tl.constexpr,
    INNER_FACTOR: tl.constexpr,
    COLUMN_FACTOR: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    BAND: tl.constexpr,
    WIDEN: tl.constexpr,
) -> None:
    row_tile, column_tile = tile_of_program(num_rows, num_columns, ROWS, COLUMNS, BAND)
    rows = row_tile * ROWS + tl.arange(0, ROWS)
    columns = column_tile * COLUMNS + tl.arange(0, COLUMNS)
    inner = tl.arange(0, INNER)
    left_ptrs = left_ptr + rows.to(tl.int64)[:, None] * left_row_stride + inner.to(tl.int64)[None, :] * left_term_stride
    right_ptrs = right_ptr + columns.to(tl.int64)[None, :] * right_column_stride
    right_ptrs += inner.to(tl.int64)[:, None] * right_term_stride
    row_exists = (rows < num_rows)[:, None]
    column_exists = (columns < num_columns)[None, :]
    product = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, num_terms, INNER):
        if WHOLE:
            left = tl.load(left_ptrs, mask=row_exists, other=0.0)
            right = tl.load(right_ptrs, mask=column_exists, other=0.0)
        else:
            inside = first + inner < num_terms
            left = tl.load(left_ptrs, mask=inside[None, :] & row_exists, other=0.0)
            right = tl.load(right_ptrs, mask=inside[:, None] & column_exists, other=0.0)
        if INNER_FACTOR:
            left *= tl.load(factor_ptr + first + inner, mask=first + inner < num_terms, other=0.0)[None, :]
        if SPLIT:
            left_high = _to_tf32(left)
            right_high = _to_tf32(right)
            left_low = _to_tf32(left - left_high)
            right_low = _to_tf32(right - right_high)
            product = tl.dot(left_low, right_high, product, input_precision="tf32")
            product = tl.dot(left_high, right_low, product, input_precision="tf32")
            product = tl.dot(left_high, right_high, product, input_precision="tf32")
        else:
            if WIDEN:  # the interpreter would multiply the bits of bfloat16 as integers
                left = left.to(tl.float32)
                right = right.to(tl.float32)
            product = tl.dot(left, right, product)
        left_ptrs += INNER * left_term_stride
        right_ptrs += INNER * right_term_stride
    if COLUMN_FACTOR:
        product *= tl.load(factor_ptr + columns, mask=columns < num_columns, other=0.0)[None, :]
    places = rows.to(tl.int64)[:, None] * num_columns + columns[None, :]
    tl.store(out_ptr + places, product, mask=row_exists & column_exists)


@triton.jit
def _to_tf32(value: tl.tensor) -> tl.tensor:
    """Round float32 to 11 significant bits, half away from zero; what would become infinite is cut instead."""
    bits = value.to(tl.uint32, bitcast=True)
    rounded = (bits + 0x1000) & 0xFFFFE000
    overflows = (rounded & 0x7F800000) == 0x7F800000
    return tl.where(overflows, bits & 0xFFFFE000, rounded).to(tl.float32, bitcast=True)


def _constants(tile: Tile) -> dict[str, int | bool]:
    return {"ROWS": tile.rows, "COLUMNS": tile.columns, "INNER": tile.inner, "BAND": BAND, "WIDEN": is_interpreted}


def variants(tiles: Tiles) -> list[Variant]:
    """Return every way in which the kernel is compiled for a generation; rows of logits can be of any length."""
    left_strides, right_strides = ("left_row_stride", "left_term_stride"), ("right_term_stride", "right_column_stride")
    by_features, by_columns = (left_strides[1], right_strides[0]), (left_strides[1], right_strides[1])
    made = []
    for name, dtype, factor, unit_strides, multiple in (
        ("scaled_product fp32", "fp32", "COLUMN_FACTOR", by_features, True),
        ("scaled_product bf16", "bf16", "COLUMN_FACTOR", by_features, True),
        ("scaled_product fp16", "fp16", "COLUMN_FACTOR", by_features, True),
        ("product_of_scaled fp32", "fp32", "INNER_FACTOR", by_columns, False),
        ("product_of_scaled fp32, C = 16 n", "fp32", "INNER_FACTOR", by_columns, True),
        ("transposed_product fp32", "fp32", None, (left_strides[0], right_strides[1]), False),
        ("transposed_product fp32, C = 16 n", "fp32", None, (left_strides[0], right_strides[1]), True),
    ):
        arguments = {"left_ptr": pointer(dtype), "right_ptr": pointer(dtype)}
        arguments |= {"factor_ptr": pointer("fp32" if factor else dtype), "out_ptr": pointer("fp32")}
        arguments |= {size: scalar("i32") for size in ("num_rows", "num_columns", "num_terms")}
        for stride in {*left_strides, *right_strides}.difference(unit_strides):
            arguments[stride] = scalar("i32", divisible=multiple or stride in right_strides)
        tile = tiles.split if dtype == "fp32" else tiles.narrow
        constants: dict[str, Any] = {"SPLIT": dtype == "fp32", "WHOLE": factor == "COLUMN_FACTOR"}
        constants |= {"INNER_FACTOR": False, "COLUMN_FACTOR": False, **_constants(tile)}
        constants |= dict.fromkeys(unit_strides, 1) | ({factor: True} if factor else {})
        made.append(Variant(name, _scaled_product, arguments, constants, tile.warps, tile.stages))
    return made
