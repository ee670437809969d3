"""The way from features to answers that `ncm_search` and `tau_sweep` share on a CPU.

    a block of features ── screen ──▶ candidates ── float32 ──▶ open ones ── float64 ──▶ answers

Where a screen leaves too many candidates of a feature, the next and finer one is used on it. What all of them leave
(such features exist: a zero vector ties everywhere) is compared with every class in float64, after the last block.

N samples, C classes, D features, G groups, K candidates of a sample at most.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ltrsys.kernels.cpu.bounded_products import Cascade
from ltrsys.kernels.cpu.exact_scores import ScoredCandidates, exact_products_of_pairs
from ltrsys.kernels.cpu.screening import Scores, Screen
from ltrsys.kernels.rounding import LARGEST, SMALLEST

FEWEST_CLASSES = 64
"""With fewer, the whole product in float64 is no slower."""
MOST_FEATURES = 1 << 14
"""Sums of as many products of 8-bit numbers fit into 32 bits, and torch adds up as many numbers in one way: the sum of
a single row of 2^15 would be shared by threads, and equal classes no longer be sure to tie."""
MOST_CANDIDATES = 256
ROWS_AT_ONCE = 4096
"""Features that are compared with every class in one call."""


def can_be_screened(features_ND: Tensor, vectors_CD: Tensor) -> bool:
    """Whether screening is worth it, and its bounds hold, for these class vectors."""
    is_double = torch.float64 in (features_ND.dtype, vectors_CD.dtype)
    sizes_fit = len(vectors_CD) >= FEWEST_CLASSES and 0 < features_ND.shape[1] <= MOST_FEATURES
    return not is_double and sizes_fit and bool(_within_range(vectors_CD).all())


def search_in_blocks(
    num_rows: int, rows_of_a_block: int, search_of: Callable[[slice], "BlockSearch"], cascade: Cascade
) -> Iterator[Tensor]:
    """Search all features block by block; yield the rows that remain, to be compared with every class in float64."""
    blocks = (slice(first, first + rows_of_a_block) for first in range(0, num_rows, rows_of_a_block))
    remaining = [block.start + search_of(block).run(cascade) for block in blocks]
    if remaining:
        yield from (rows for rows in torch.cat(remaining).split(ROWS_AT_ONCE) if len(rows))


class BlockSearch(ABC):
    """The search for the answers to one block of features."""

    most_candidates = MOST_CANDIDATES

    def __init__(self, features_ND: Tensor, vectors_CD: Tensor, center_D: Tensor | None = None) -> None:
        """Begin with features of a narrow type or float32, class vectors in float32, and a centre to be subtracted."""
        self._given_ND = features_ND
        self._center_D = center_D
        self.vectors_CD = vectors_CD
        # of a centred feature this is rounded: every bound of a screen, and `float32_error`, has room for that
        self.features_ND = features_ND.float() if center_D is None else self.exact_features(slice(None)).float()

    @abstractmethod
    def threshold(self, scores: Scores, best_NG: Tensor) -> Tensor:
        """Return what the score of a member of each group must reach to be part of an answer, [N, G] or [N, 1]."""

    @abstractmethod
    def decide(self, rows_N: Tensor, candidates: ScoredCandidates) -> None:
        """Write the answers to the features at `rows_N`, one of whose candidates is right."""

    def run(self, cascade: Cascade) -> Tensor:
        """Answer the features that are in range and have few enough candidates; return the rows of the others."""
        usable_N = _within_range(self.features_ND)
        open_rows, others = usable_N.nonzero()[:, 0], (~usable_N).nonzero()[:, 0]
        for stage in range(len(cascade)):
            screen = cascade.screen(stage) if len(open_rows) else None
            if screen is not None:
                left_rows, num_candidates = self._screened(open_rows, screen)
                cascade.report(stage, len(left_rows) / len(open_rows), num_candidates / len(open_rows))
                open_rows = left_rows
        return torch.cat([open_rows, others])

    def exact_features(self, rows: Tensor | slice) -> Tensor:
        """Return features, centred, in float64."""
        features = self._given_ND[rows].double()
        return features if self._center_D is None else features - self._center_D.double()

    def exact_products(self, rows_Q: Tensor, classes_Q: Tensor) -> Tensor:
        """Return x_n . w_j in float64 for some pairs, those of a feature one after the other."""
        return exact_products_of_pairs(rows_Q, classes_Q, self.exact_features, self.vectors_CD)

    def _screened(self, rows_N: Tensor, screen: Screen) -> tuple[Tensor, int]:
        """Answer what a screen leaves few enough candidates of; return the rows of the others, and all candidates."""
        everything = len(rows_N) == len(self.features_ND)
        features_ND = self.features_ND if everything else self.features_ND[rows_N]
        scores = screen.scores(features_ND)
        best_NG = scores.best_of_group()
        pair_rows, pair_classes = scores.candidates(best_NG, self.threshold(scores, best_NG))
        del scores
        num_candidates = len(pair_rows)
        few_N = torch.bincount(pair_rows, minlength=len(rows_N)) <= self.most_candidates
        if not few_N.all():
            kept = few_N[pair_rows]
            renumbered_N = few_N.cumsum(0) - 1
            pair_rows, pair_classes = renumbered_N[pair_rows[kept]], pair_classes[kept]
            features_ND = features_ND[few_N]
        if few_N.any():
            self.decide(rows_N[few_N], ScoredCandidates.of(pair_rows, pair_classes, features_ND, self.vectors_CD))
        return rows_N[~few_N], num_candidates


def _within_range(rows_RD: Tensor) -> Tensor:
    """Whether the bounds of `rounding` hold for each row."""
    largest_R = torch.maximum(-rows_RD.amin(dim=1), rows_RD.amax(dim=1))  # aminmax of each row takes six times as long
    return (largest_R == 0) | ((largest_R >= SMALLEST) & (largest_R <= LARGEST))
