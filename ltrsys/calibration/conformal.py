"""Prediction sets that hold the right class with a wanted probability: split conformal prediction.

Vovk et al., "Algorithmic learning in a random world", 2005; the score 1 - p: Sadinle et al., "Least ambiguous
set-valued classifiers with bounded error levels", JASA 2019; the score -p / pi, the prevalence-adjusted softmax: Ding
et al., "Conformal prediction for long-tailed classification", 2025 (arXiv 2507.06867). Here both are told the other
way round, as conformities: p and p / pi, which are high for a class that fits. n calibration images, C classes.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from ltrsys.errors import UsageError


@dataclass(frozen=True)
class ConformalScores:
    """The conformities of the right classes of the calibration images."""

    rising_n: Tensor
    """float64 [n], ascending."""

    @classmethod
    def of(cls, conformity_NC: Tensor, labels_N: Tensor) -> "ConformalScores":
        """Take the conformity of each image's class out of those of all classes, [n, C]."""
        own = conformity_NC.gather(1, labels_N[:, None])[:, 0]
        return cls(own.double().sort().values)

    def threshold(self, coverage: float) -> float:
        """Return the conformity from which on a class is in the set; minus infinity where that is every class.

        The ceil((n + 1) coverage)-th highest of the calibration images: a new image of the same distribution then has
        its class in the set with at least the probability `coverage`, over calibration sets and images. With fewer than
        coverage / (1 - coverage) images only the set of all classes has that.

        Raises:
            UsageError: Where the coverage is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise UsageError(f"coverage {coverage:g}: give a number between 0 and 1, such as 0.9.")
        n = len(self.rising_n)
        rank = math.ceil((n + 1) * coverage - 1e-9)  # that 110 * 0.9 is 99.00000000000001 asks for no more
        return -math.inf if rank > n else float(self.rising_n[n - rank])

    def sets(self, conformity_NC: Tensor, coverage: float) -> Tensor:
        """Return which classes are in the set of each image, bool [N, C].

        A set may be empty: no class fits the image as well as most calibration images are fitted by theirs.
        """
        return conformity_NC >= self.threshold(coverage)


def prevalence_adjusted(probabilities_NC: Tensor, shares_C: Tensor) -> Tensor:
    """Return p / pi, [N, C]: how much more probable a class is than it was before the image was seen.

    Rare classes so come into a set with a smaller probability. Of all scores it gives the smallest sets for a mean over
    the classes of their coverages, if p are the probabilities of images that are distributed as pi says (Ding et al.,
    2025).
    """
    return probabilities_NC / shares_C.to(probabilities_NC)
