"""Scores of the few classes that screening leaves: in float32, and in float64 where float32 leaves the order open.

N samples, C classes, D features, Q candidates (pairs of a sample and a class), K candidates of a sample at most.
"""

import functools
import threading
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

STRETCH = 128
"""Features whose products are added up in float32 where there are many candidates."""
MANY = 32
"""With more candidates a sample, so many would lie within the error of a whole float32 product of one another that it
pays to make it smaller."""
EXACT_STRETCH = 512
"""Features of which the class vectors that are compared are held in float64 at a time: 32 MiB of 8,142 classes."""
EXACT_BLOCK_ELEMENTS = 1 << 18
"""Numbers that are gathered at once for distances in float64: 2 MiB of either factor, for the caches."""


@dataclass(frozen=True)
class ScoredCandidates:
    """The candidates of each sample in ascending order of their classes, and what is known of their scores."""

    classes_NK: Tensor
    """int64 [N, K]; 0 beyond a sample's last candidate."""
    present_NK: Tensor
    """Whether there is a candidate."""
    product_NK: Tensor
    """x.w_j in float64, but of float32 precision."""
    error: float
    """Bound of the error of a product, relative to |x| |w_j|."""

    @classmethod
    def of(cls, rows_Q: Tensor, classes_Q: Tensor, features_ND: Tensor, vectors_CD: Tensor) -> "ScoredCandidates":
        """Score pairs of rows (ascending) and classes, each pair once, in float32."""
        num_rows, num_classes = len(features_ND), len(vectors_CD)
        pairs_Q = (rows_Q * num_classes + classes_Q).sort().values
        rows_Q, classes_Q = pairs_Q // num_classes, pairs_Q % num_classes
        counts_N = torch.bincount(rows_Q, minlength=num_rows)
        first_N = counts_N.cumsum(0) - counts_N
        place_Q = torch.arange(len(rows_Q)) - first_N[rows_Q]
        stretch = features_ND.shape[1] if len(rows_Q) <= MANY * num_rows else STRETCH
        shape = (num_rows, int(counts_N.max()) if num_rows else 0)
        candidates = cls(
            torch.zeros(shape, dtype=torch.int64),
            torch.zeros(shape, dtype=torch.bool),
            torch.zeros(shape, dtype=torch.float64),
            float32_error(min(stretch, features_ND.shape[1])),
        )
        candidates.classes_NK[rows_Q, place_Q] = classes_Q
        candidates.present_NK[rows_Q, place_Q] = True
        products_Q = sampled_product(first_N, classes_Q, features_ND, vectors_CD, stretch)
        candidates.product_NK[rows_Q, place_Q] = products_Q
        return candidates


def float32_error(num_added: int) -> float:
    """Bound the error of a float32 product of which this many terms are added in float32, relative to |x| |w_j|.

    As many additions, in any order, and the multiplication, each rounded by 2^-24 of itself; and as much again for
    features that were centred in float64 and rounded.
    """
    return (num_added + 1) * 2.0**-23


def sampled_product(
    first_N: Tensor, classes_Q: Tensor, features_ND: Tensor, vectors_CD: Tensor, stretch: int
) -> Tensor:
    """Return x_n . w_j for some pairs, float64 [Q]; those of sample n begin at `first_N[n]`.

    Each stretch of features is multiplied in float32, and the products of the stretches are added in float64.
    """
    first_N = torch.cat([first_N, first_N.new_tensor([len(classes_Q)])])
    pattern = _sparse(first_N, classes_Q, features_ND.new_zeros(len(classes_Q)), (len(features_ND), len(vectors_CD)))
    return _sum_at(pattern, zip(features_ND.split(stretch, dim=1), vectors_CD.split(stretch, dim=1), strict=True))


def exact_products_of_pairs(
    rows_Q: Tensor, classes_Q: Tensor, features_of: Callable[[Tensor], Tensor], vectors_CD: Tensor
) -> Tensor:
    """Return x_n . w_j for some pairs, float64 [Q]; `features_of` gives rows in float64.

    Equal rows stand one after the other. Each pair is added up in the same way: equal vectors give equal bits, and so
    tie.
    """
    if not len(rows_Q):
        return torch.zeros(0, dtype=torch.float64)
    rows_R, counts_R = rows_Q.unique_consecutive(return_counts=True)
    classes_K, place_Q = classes_Q.unique(return_inverse=True)
    first_R = functional.pad(counts_R.cumsum(0), (1, 0))
    pattern = _sparse(first_R, place_Q, torch.zeros(len(rows_Q), dtype=torch.float64), (len(rows_R), len(classes_K)))
    stretches = zip(
        features_of(rows_R).split(EXACT_STRETCH, dim=1), vectors_CD.split(EXACT_STRETCH, dim=1), strict=True
    )
    return _sum_at(pattern, ((features, vectors[classes_K].double()) for features, vectors in stretches))


def _sum_at(pattern: Tensor, factors: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the sum of the products of features and vectors, stretch by stretch, at the places of a pattern."""
    sums_Q = torch.zeros(len(pattern.values()), dtype=torch.float64)
    for features, vectors in factors:
        sums_Q += torch.sparse.sampled_addmm(pattern, features, vectors.T, beta=0.0).values()
    return sums_Q


def _sparse(first_R: Tensor, columns_Q: Tensor, values_Q: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a sparse matrix."""
    _hear_about_beta()
    return torch.sparse_csr_tensor(first_R, columns_Q, values_Q, size=size, check_invariants=False)


_filters_of_warnings = threading.Lock()


@functools.cache
def _hear_about_beta() -> None:
    """Let torch give its one warning about the state of sparse matrices here, and not to the user of a search.

    Only once, and in one thread at a time, because the filters of warnings belong to all threads.
    """
    with _filters_of_warnings, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        zero = torch.zeros(1, dtype=torch.int64, device="cpu")
        torch.sparse_csr_tensor(zero, zero[:0], torch.zeros(0, device="cpu"), size=(0, 0), check_invariants=False)


def exact_squared_distances_of_pairs(
    rows_Q: Tensor, classes_Q: Tensor, features_of: Callable[[Tensor], Tensor], vectors_CD: Tensor
) -> Tensor:
    """Return |x_n - w_j|^2 for some pairs, float64 [Q]; `features_of` gives rows in float64.

    Each pair is added up in the same way: equal vectors give equal bits, and so tie.
    """
    sums_Q = torch.empty(len(rows_Q), dtype=torch.float64)
    step = max(1, EXACT_BLOCK_ELEMENTS // max(1, vectors_CD.shape[1]))
    for first in range(0, len(rows_Q), step):
        part = slice(first, first + step)
        differences = features_of(rows_Q[part]).sub_(vectors_CD[classes_Q[part]].double())
        sums_Q[part] = differences.square_().sum(dim=1)
    return sums_Q
