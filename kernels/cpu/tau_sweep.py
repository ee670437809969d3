"""`tau_sweep` on a CPU: one product in low precision screens for every tau, float32 and float64 decide.

The score of class j at tau is |w_j|^(1 - tau) * x.u_j, u_j being w_j / |w_j|. Classes are put into groups of nearly
equal |w_j|; at each tau, the best x.u_j of a group and the range of its factors bound the scores of all its members.

N samples, C classes, D features, T values of tau, G groups, K candidates of a sample at most.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ltrsys.kernels import reference
from ltrsys.kernels.cpu.block_search import BlockSearch, can_be_screened, search_in_blocks
from ltrsys.kernels.cpu.bounded_products import Cascade, PlainScreen, RoundedScreen
from ltrsys.kernels.cpu.exact_scores import ScoredCandidates
from ltrsys.kernels.cpu.screening import Grouping, Scores, members_for
from ltrsys.kernels.reproducible_sums import lengths_in_blocks

ROWS_OF_A_BLOCK = 384
"""Features that are screened at once: 6 MiB of scores in bfloat16 at 8,142 classes."""
LEAST_FACTOR = 1e-18
"""How much smaller a factor may be than the largest at the same tau: a threshold that underflows in float32 is then off
by less than the bound of a score has room for. docs/kernels.md derives it ("Factors that underflow")."""


def tau_sweep(features_ND: Tensor, weight_CD: Tensor, taus_T: Tensor, factors_TC: Tensor) -> Tensor:
    """Find the arg max for each tau, of validated features on a CPU; see `ltrsys.kernels.tau_sweep`.

    `factors_TC` are `reference.norm_factors`.
    """
    if not can_be_screened(features_ND, weight_CD):
        return reference.tau_sweep(features_ND, weight_CD, taus_T)
    weights = _Weights.of(weight_CD.float(), factors_TC)
    if weights.relative_TC.min() < LEAST_FACTOR:
        return reference.tau_sweep(features_ND, weight_CD, taus_T)
    classes_TN = torch.empty(len(taus_T), len(features_ND), dtype=torch.int64)

    def search_of(block: slice) -> BlockSearch:
        return _BestClassesOfBlock(features_ND[block], weights, classes_TN[:, block])

    for rows in search_in_blocks(len(features_ND), ROWS_OF_A_BLOCK, search_of, weights.cascade()):
        classes_TN[:, rows] = reference.tau_sweep(features_ND[rows], weight_CD, taus_T)
    return classes_TN


@dataclass(frozen=True)
class _Weights:
    """The class weights, float32 [C, D], and their factors."""

    vectors_CD: Tensor
    norm_C: Tensor
    """|w_j|, and 1 where that is 0: such a class scores 0 anyway. float64."""
    factor_TC: Tensor
    """|w_j|^-tau, float64."""
    relative_TC: Tensor
    """|w_j|^(1 - tau), what x.u_j is multiplied by, over the largest at the same tau, float64."""
    grouping: Grouping

    @classmethod
    def of(cls, vectors_CD: Tensor, factor_TC: Tensor) -> "_Weights":
        norm_C = lengths_in_blocks(vectors_CD)
        norm_C = torch.where(norm_C > 0, norm_C, 1.0)
        relative_TC = factor_TC * norm_C
        relative_TC /= relative_TC.amax(dim=1, keepdim=True)
        grouping = Grouping.of(norm_C.argsort(), members_for(len(vectors_CD), 1))
        return cls(vectors_CD, norm_C, factor_TC, relative_TC, grouping)

    def cascade(self) -> Cascade:
        """Return what to screen x.u_j with."""
        num_features = self.vectors_CD.shape[1]
        inverse_C = (1 / self.norm_C).float()
        error = 2.0**-22  # of vectors of length 1 that are multiplied

        def directions(classes: Tensor) -> Tensor:
            return self.vectors_CD[classes].mul_(inverse_C[classes][:, None])

        return Cascade(
            [
                ("bfloat16", lambda: RoundedScreen(directions, error, num_features, self.grouping)),
                ("float32", lambda: PlainScreen(self.vectors_CD, inverse_C, None, self.grouping)),
            ]
        )

    def range_of_groups(self) -> tuple[Tensor, Tensor]:
        """Return the least and the largest relative factor of each group, float32 [T, G]."""
        relative_TGM = self.grouping.of_group(self.relative_TC)
        return relative_TGM.amin(dim=2).float(), relative_TGM.amax(dim=2).float()


class _BestClassesOfBlock(BlockSearch):
    """The best class of each feature of a block at each tau."""

    def __init__(self, features_ND: Tensor, weights: _Weights, classes_TN: Tensor) -> None:
        """Begin; `classes_TN` is where the answers go, int64 [T, N]."""
        super().__init__(features_ND, weights.vectors_CD)
        self._weights = weights
        self._least_TG, self._largest_TG = weights.range_of_groups()
        self._classes_TN = classes_TN

    def threshold(self, scores: Scores, best_NG: Tensor) -> Tensor:
        """Return the least score that can still win at some tau.

        At one tau the best of all classes is at least the best lower end L of a group, times its least factor (its
        largest, if negative). A member of group g reaches L only if its score reaches L / largest factor of g (its
        least, if L is negative).
        """
        lower_NG = scores.lower(best_NG)
        positive_NG = lower_NG >= 0
        reach_NG = torch.full_like(lower_NG, torch.inf)
        for least_G, largest_G in zip(self._least_TG, self._largest_TG, strict=True):
            best_N1 = (lower_NG * torch.where(positive_NG, least_G, largest_G)).amax(dim=1, keepdim=True)
            torch.minimum(reach_NG, best_N1 / torch.where(best_N1 >= 0, largest_G, least_G), out=reach_NG)
        return reach_NG

    def decide(self, rows_N: Tensor, candidates: ScoredCandidates) -> None:
        """Take the best by float32 at each tau; where another comes too near for float32, compare in float64.

        If one is near at a tau, it is the best; if more, they are compared exactly. In either case all others stay
        below the best, whether they were computed again, for another tau, or not.
        """
        classes_NK, product_NK = candidates.classes_NK, candidates.product_NK
        length_N1 = self.features_ND[rows_N].norm(dim=1, keepdim=True).double()
        error_NK = candidates.error * length_N1 * self._weights.norm_C[classes_NK]
        open_NK = torch.zeros_like(candidates.present_NK)
        for factor_C in self._weights.factor_TC:
            factor_NK = factor_C[classes_NK]
            value_NK, radius_NK = product_NK * factor_NK, error_NK * factor_NK
            best_N1 = torch.where(candidates.present_NK, value_NK - radius_NK, -torch.inf).amax(dim=1, keepdim=True)
            near_NK = candidates.present_NK & (value_NK + radius_NK >= best_N1)
            open_NK |= near_NK & (near_NK.sum(dim=1, keepdim=True) > 1)
        rows, places = open_NK.nonzero(as_tuple=True)
        product_NK[rows, places] = self.exact_products(rows_N[rows], classes_NK[rows, places])
        for classes_N, factor_C in zip(self._classes_TN, self._weights.factor_TC, strict=True):
            value_NK = torch.where(candidates.present_NK, product_NK * factor_C[classes_NK], -torch.inf)
            classes_N[rows_N] = classes_NK.gather(1, value_NK.argmax(dim=1, keepdim=True))[:, 0]
