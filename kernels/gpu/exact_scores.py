"""Scores of the few classes that screening leaves, in float64: what decides.

N rows, C classes, D features, K places of candidates a row, T values of tau.
"""

from typing import Any

import torch
import triton
from torch import Tensor
from triton import language as tl

from ltrsys.kernels.gpu.screening import Candidates
from ltrsys.kernels.gpu.variants import Variant, pointer, scalar

CLASSES = 8
"""Classes that a program scores at a time."""

COLUMNS = 128
"""Features that a program reads at a time."""

PROGRAMS_FOR_ALL = 32
"""Programs that share a row, at most, when all classes are scored."""

ALL_CLASSES_ELEMENTS = 1 << 22
"""Scores against every class that are held at once: 32 MiB in float64."""


def exact_scores(
    features_ND: Tensor,
    classes_CD: Tensor,
    candidates: Candidates | None,
    *,
    distance: bool = False,
    center_D: Tensor | None = None,
) -> Tensor:
    """Score candidates, or every class, in float64.

    The terms are added in the same order for every class: equal classes have equal scores, to the last bit.

    Args:
        features_ND: float32 or float64, of `aligned_rows`.
        classes_CD: likewise, of the same type.
        candidates: The classes to score; None for all.
        distance: The squared distance instead of the product.
        center_D: Subtracted from the features first, float64 [D], of `aligned_center`.

    Returns:
        float64 [N, K], undefined where there is no candidate; [N, C] without candidates.
    """
    num_rows, num_features = features_ND.shape
    places = classes_CD.shape[0] if candidates is None else candidates.classes_NK.shape[1]
    scores_NK = torch.empty(num_rows, places, dtype=torch.float64, device=features_ND.device)
    if num_rows:
        programs = min(PROGRAMS_FOR_ALL, triton.cdiv(places, CLASSES)) if candidates is None else 1
        _exact_scores[(num_rows, programs)](
            features_ND,
            classes_CD,
            features_ND if center_D is None else center_D,
            features_ND if candidates is None else candidates.classes_NK,
            features_ND if candidates is None else candidates.count_N,
            scores_NK,
            num_features,
            places,
            ALL=candidates is None,
            DISTANCE=distance,
            CENTERED=center_D is not None,
            CLASSES=CLASSES,
            COLUMNS=COLUMNS,
            num_warps=4,
        )
    return scores_NK


def best_of_each_tau(scores_NK: Tensor, found: Candidates, factors_TC: Tensor) -> Tensor:
    """Return for each tau the candidate with the greatest factor times score, int64 [T, N]; ties to the lower id."""
    num_rows, capacity = scores_NK.shape
    best_TN = torch.empty(factors_TC.shape[0], num_rows, dtype=torch.int64, device=scores_NK.device)
    if num_rows:
        _best_of_each_tau[(num_rows,)](
            scores_NK,
            found.classes_NK,
            found.count_N,
            factors_TC,
            best_TN,
            num_rows,
            factors_TC.shape[1],
            factors_TC.shape[0],
            CAPACITY=capacity,
            num_warps=1,
        )
    return best_TN


@triton.jit(do_not_specialize=["places"])
def _exact_scores(
    features_ptr: tl.tensor,
    class_rows_ptr: tl.tensor,
    center_ptr: tl.tensor,
    candidates_ptr: tl.tensor,
    count_ptr: tl.tensor,
    scores_ptr: tl.tensor,
    num_features: tl.tensor,
    places: tl.tensor,
    ALL: tl.constexpr,
    DISTANCE: tl.constexpr,
    CENTERED: tl.constexpr,
    CLASSES: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    count = places
    if not ALL:
        count = tl.minimum(tl.load(count_ptr + row), places)
    columns = tl.arange(0, COLUMNS)
    for first in range(tl.program_id(1) * CLASSES, count, tl.num_programs(1) * CLASSES):
        place = first + tl.arange(0, CLASSES)
        known = place < count
        if ALL:
            class_id = place
        else:
            class_id = tl.load(candidates_ptr + row * places + place, mask=known, other=0)
        class_rows = class_rows_ptr + class_id.to(tl.int64)[:, None] * num_features
        terms = tl.zeros((CLASSES, COLUMNS), tl.float64)
        for first_column in range(0, num_features, COLUMNS):
            column = first_column + columns
            inside = column < num_features
            feature = tl.load(features_ptr + row * num_features + column, mask=inside, other=0.0)
            feature = feature.to(tl.float64)
            if CENTERED:
                feature -= tl.load(center_ptr + column, mask=inside, other=0.0)
            weight = tl.load(class_rows + column[None, :], mask=known[:, None] & inside[None, :], other=0.0)
            weight = weight.to(tl.float64)
            if DISTANCE:
                difference = feature[None, :] - weight
                terms += difference * difference
            else:
                terms += feature[None, :] * weight
        tl.store(scores_ptr + row * places + place, tl.sum(terms, 1), mask=known)


@triton.jit(do_not_specialize=["num_rows", "num_classes", "num_taus"])
def _best_of_each_tau(
    scores_ptr: tl.tensor,
    candidates_ptr: tl.tensor,
    count_ptr: tl.tensor,
    factors_ptr: tl.tensor,
    best_ptr: tl.tensor,
    num_rows: tl.tensor,
    num_classes: tl.tensor,
    num_taus: tl.tensor,
    CAPACITY: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, CAPACITY)
    known = place < tl.load(count_ptr + row)
    score = tl.load(scores_ptr + row * CAPACITY + place, mask=known, other=0.0)
    class_id = tl.load(candidates_ptr + row * CAPACITY + place, mask=known, other=0)
    for _ in range(num_taus):
        factor = tl.load(factors_ptr + class_id, mask=known, other=0.0)
        scaled = tl.where(known, factor * score, float("-inf"))
        best = tl.max(scaled, 0)
        lowest = tl.min(tl.where(known & (scaled == best), class_id, num_classes), 0)
        tl.store(best_ptr + row, lowest.to(tl.int64))
        factors_ptr += num_classes
        best_ptr += num_rows


def variants(capacity: int) -> list[Variant]:
    """Return the ways in which the kernels are compiled."""
    sizes = {"num_features": scalar("i32", divisible=True), "places": scalar("i32")}
    made = []
    # float64 is not screened: every class is scored
    for dtype, every in (("fp32", False), ("fp32", True), ("fp64", True)):
        for distance, centered in ((False, False), (False, True), (True, False), (True, True)):
            words = [dtype, "distance" if distance else "product", "centered" * centered, "all classes" * every]
            arguments = {
                "features_ptr": pointer(dtype),
                "class_rows_ptr": pointer(dtype),
                "center_ptr": pointer("fp64" if centered else dtype),
                "candidates_ptr": pointer(dtype if every else "i32"),
                "count_ptr": pointer(dtype if every else "i32"),
                "scores_ptr": pointer("fp64"),
            }
            constants: dict[str, Any] = {"ALL": every, "DISTANCE": distance, "CENTERED": centered}
            constants |= {"CLASSES": CLASSES, "COLUMNS": COLUMNS}
            name = f"exact_scores {', '.join(filter(None, words))}"
            made.append(Variant(name, _exact_scores, arguments | sizes, constants, warps=4, stages=3))
    arguments = {
        "scores_ptr": pointer("fp64"),
        "candidates_ptr": pointer("i32"),
        "count_ptr": pointer("i32"),
        "factors_ptr": pointer("fp64"),
        "best_ptr": pointer("i64"),
        "num_rows": scalar("i32"),
        "num_classes": scalar("i32"),
        "num_taus": scalar("i32"),
    }
    made.append(Variant("best_of_each_tau", _best_of_each_tau, arguments, {"CAPACITY": capacity}, warps=1, stages=3))
    return made
