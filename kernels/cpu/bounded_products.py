"""Scores with a known bound of their error, by a product in 8-bit whole numbers, in bfloat16 or in float32.

In this order they are ever slower and finer: each leaves fewer classes open.

N samples, C classes, D features, P places of a grouping.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from ltrsys.kernels.cpu.screening import Grouping, Scores, Screen
from ltrsys.kernels.rounding import ACCUMULATION_UNIT, RoundedRows, product_error, round_rows

Product = Literal["int8", "bfloat16", "float32"]
ScreenMaker = tuple[Product, Callable[[], Screen]]
"""The product that a screen is made of, and what makes the screen."""
VectorsOf = Callable[[Tensor], Tensor]
"""Gives the vectors of some classes, float32 [len(classes), D]."""
ROWS_AT_ONCE = 256
"""Class vectors that are prepared at once, to stay in the caches."""


def fast_products() -> frozenset[Product]:
    """Return the types whose products are fast on this processor, and have the precision that the bounds count on.

    A user may have allowed torch to multiply float32 as bfloat16 or TF32 (`torch.set_float32_matmul_precision`).
    """
    precision = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    return _products_of_the_processor() - (set() if precision in ("none", "ieee") else {"float32"})


@cache
def _products_of_the_processor() -> frozenset[Product]:
    capabilities = torch.cpu.get_capabilities()
    wanted: dict[Product, tuple[str, ...]] = {
        "int8": ("avx512_vnni", "amx_int8"),
        "bfloat16": ("avx512_bf16", "amx_bf16"),
        "float32": (),
    }
    return frozenset(
        product
        for product, names in wanted.items()
        if not names or any(capabilities.get(name, False) for name in names)
    )


class Cascade:
    """Screens in the order in which they are tried; one is made ready when it is first needed.

    A screen that has left most features open, or more candidates than a finer product would cost, is not tried again.
    """

    MOST_LEFT = 0.5
    MOST_CANDIDATES = 64

    def __init__(self, screens: Sequence[ScreenMaker]) -> None:
        self._makers = [make for product, make in screens if product in fast_products()]
        self._screens: list[Screen | None] = [None] * len(self._makers)
        self._useless = [False] * len(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def screen(self, stage: int) -> Screen | None:
        """Return the screen of a stage; None if it is not worth trying."""
        if self._useless[stage]:
            return None
        screen = self._screens[stage]
        if screen is None:
            screen = self._screens[stage] = self._makers[stage]()
        return screen

    def report(self, stage: int, left: float, candidates: float) -> None:
        """Hear which part of the features a screen has left open, and how many candidates of a feature; both means.

        The last screen is always tried.
        """
        if stage + 1 < len(self) and (left > self.MOST_LEFT or candidates > self.MOST_CANDIDATES):
            self._useless[stage] = True
            self._screens[stage] = None


class ByteScreen:
    """The product in whole numbers of 8 bits, which is exact; only what rounding to them takes is allowed for.

    A feature is divided by its largest element over 127, and all class vectors by the same step, a 127th of
    DEVIATIONS standard deviations of the longest: so products of one feature can be compared as they are. Elements
    beyond that are cut off, which counts to the residual.
    """

    UNIT = 2.0**-21
    """Rounding of the product, of up to 31 bits, to float32, and of its scale."""
    STEPS = 127
    DEVIATIONS = 4.5

    def __init__(self, vectors_of: VectorsOf, vector_error: float, num_features: int, grouping: Grouping) -> None:
        """Round the vectors; each may differ from the exact one by `vector_error` in L2 norm."""
        self.grouping = grouping
        parts = list(grouping.class_of_place.split(ROWS_AT_ONCE))
        longest = max(float(vectors_of(part).norm(dim=1).max()) for part in parts)
        deviation = max(longest / num_features**0.5, torch.finfo(torch.float32).tiny)
        self._step = torch.tensor([self.DEVIATIONS * deviation / self.STEPS], dtype=torch.float32)
        rounded = [_to_bytes(vectors_of(part), self._step) for part in parts]
        self._vectors = RoundedRows(
            torch.cat([part.values_RD for part in rounded]),
            torch.cat([part.norm_R for part in rounded]),
            torch.cat([part.residual_R for part in rounded]) + vector_error,
        )

    def scores(self, features_ND: Tensor) -> Scores:
        """Return the scores of float32 features [N, D]."""
        step_N = features_ND.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / self.STEPS
        rounded = _to_bytes(features_ND, step_N[:, None])
        values_NP = torch._int_mm(rounded.values_RD, self._vectors.values_RD.T)
        error_N = product_error(rounded, self._vectors)
        return Scores(values_NP, error_N, self.UNIT, self.grouping, step_N * self._step)


def _to_bytes(rows_RD: Tensor, step_R1: Tensor) -> RoundedRows:
    """Round rows to multiples of a step; the float32 arithmetic of the residual is allowed for."""
    multiples_RD = (rows_RD / step_R1).round_().clamp_(-ByteScreen.STEPS, ByteScreen.STEPS)
    # The strides must be those of a matrix by rows: torch takes a single row with the strides of a column for another
    values_RD = multiples_RD.to(torch.int8, memory_format=torch.contiguous_format)
    norm_R = rows_RD.norm(dim=1)
    residual_R = multiples_RD.mul_(step_R1).sub_(rows_RD).norm(dim=1)
    slack = 1.0 + 2.0 * max(rows_RD.shape[1] * 2.0**-23, 2.0**-20)
    residual_R = residual_R * slack + norm_R * 2.0**-22
    return RoundedRows(values_RD, norm_R * slack + residual_R, residual_R)


class RoundedScreen:
    """The product in bfloat16.

    The class vectors are kept in bfloat16, in the order of their places. A bias is kept as three more columns: three
    bfloat16 numbers hold 24 bits of it, and what they leave is counted to the residual.
    """

    UNIT = 2.0**-8 * (1.0 + 2.0**-7)
    """Rounding of the result to bfloat16, relative to the rounded result."""
    PARTS_OF_BIAS = 3

    def __init__(
        self,
        vectors_of: VectorsOf,
        vector_error: float,
        num_features: int,
        grouping: Grouping,
        *,
        bias_C: Tensor | None = None,
        shift_D: Tensor | None = None,
    ) -> None:
        """Round the vectors.

        Args:
            vectors_of: Gives the vectors.
            vector_error: At least the L2 norm of the difference between such a vector and the exact one.
            num_features: D.
            grouping: The places.
            bias_C: Added to each score, float64 [C].
            shift_D: Subtracted from each feature first, float32 [D].
        """
        self.grouping = grouping
        self._shift_D = shift_D
        self._extra = 0 if bias_C is None else self.PARTS_OF_BIAS
        self._bias_error = 0.0
        places = len(grouping.class_of_place)
        values_PD = torch.empty(places, num_features + self._extra, dtype=torch.bfloat16)
        norm_P, residual_P = (torch.empty(places, dtype=torch.float32) for _ in range(2))
        for rows in torch.arange(places).split(ROWS_AT_ONCE):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            rounded = round_rows(vectors_of(grouping.class_of_place[part]), torch.bfloat16)
            values_PD[part, :num_features] = rounded.values_RD
            norm_P[part], residual_P[part] = rounded.norm_R, rounded.residual_R
        if bias_C is not None:
            left_P = bias_C[grouping.class_of_place]
            largest = float(left_P.abs().max())
            for part_of_bias in range(num_features, num_features + self._extra):
                values_PD[:, part_of_bias] = left_P.bfloat16()
                left_P = left_P - values_PD[:, part_of_bias].double()
            accumulated = 2 * (num_features + self._extra) * ACCUMULATION_UNIT * largest
            self._bias_error = float(left_P.abs().max()) + accumulated
        self._vectors = RoundedRows(values_PD, norm_P, residual_P.add_(vector_error))

    def scores(self, features_ND: Tensor) -> Scores:
        """Return the scores of float32 features [N, D]."""
        shift_error_N = 0.0
        if self._shift_D is not None:
            unshifted_N = features_ND.norm(dim=1)
            features_ND = features_ND - self._shift_D
            shift_error_N = 2.0**-22 * (unshifted_N + features_ND.norm(dim=1)) * self._vectors.norm_R.max()
        rounded = round_rows(features_ND, torch.bfloat16)
        error_N = product_error(rounded, self._vectors) + shift_error_N + self._bias_error
        values_ND = rounded.values_RD
        if self._extra:
            values_ND = torch.cat([values_ND, values_ND.new_ones(len(values_ND), self._extra)], dim=1)
        return Scores(values_ND @ self._vectors.values_RD.T, error_N, self.UNIT, self.grouping)


class PlainScreen:
    """The product in float32 with the class vectors as they are; each score is then multiplied and moved."""

    UNIT = 2.0**-22
    """Rounding of the multiplication and of the addition."""

    def __init__(self, vectors_CD: Tensor, factor_C: Tensor | None, bias_C: Tensor | None, grouping: Grouping) -> None:
        self.grouping = grouping
        # moved once: the columns of a matrix of scores would be moved in each block
        self._vectors_PD = vectors_CD[grouping.class_of_place]
        self._factor_P = None if factor_C is None else factor_C.float()[grouping.class_of_place]
        self._bias_P = None if bias_C is None else bias_C.float()[grouping.class_of_place]
        norm_C = vectors_CD.norm(dim=1) if factor_C is None else vectors_CD.new_ones(1)
        self._norm = norm_C.max() * (1.0 + 2.0 * max(vectors_CD.shape[1] * 2.0**-23, 2.0**-20))
        self._bias_error = 0.0 if bias_C is None else float(bias_C.abs().max()) * self.UNIT

    def scores(self, features_ND: Tensor) -> Scores:
        """Return the scores of float32 features [N, D]."""
        values_NP = features_ND @ self._vectors_PD.T
        if self._factor_P is not None:
            values_NP *= self._factor_P
        if self._bias_P is not None:
            values_NP += self._bias_P
        norm_N = features_ND.norm(dim=1)
        error_N = features_ND.shape[1] * ACCUMULATION_UNIT * norm_N * self._norm + self._bias_error
        return Scores(values_NP, error_N, self.UNIT, self.grouping)
