"""From which confidence on an answer is right with a wanted precision; below it the answer is "not sure".

Selective classification (Geifman and El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017). A
threshold is given only where images that were not fitted on show its precision; how, is said in `PrecisionCurve.first`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ERROR = 0.05
"""How probable it may be, over calibration sets, that the precision is below the wanted one."""

_STARTS = 5
"""Places of the curve from which a search begins; each has an equal part of ERROR."""

_MOST_POINTS = 256
_FEWEST_IMAGES = 20
"""Of the first point of a curve: fewer show no precision that anybody asks for."""


@dataclass(frozen=True)
class PrecisionCurve:
    """Images above each of some thresholds, and how many of them are right; K thresholds, falling, the last one 0."""

    threshold_K: NDArray[np.float64]
    images_K: NDArray[np.int64]
    """Images whose confidence is at least the threshold: rising, the last one all."""
    right_K: NDArray[np.int64]

    @classmethod
    def of(cls, confidence_N: NDArray[np.float64], correct_N: NDArray[np.bool_]) -> "PrecisionCurve":
        """Count, at no more than 256 thresholds whose numbers of images grow evenly in proportion.

        Each threshold is the confidence of an image; images of one confidence are above it together.

        Args:
            confidence_N: Confidences, from 0 to 1.
            correct_N: Whether the answer was right.
        """
        order = np.argsort(-confidence_N, kind="stable")
        falling, right = confidence_N[order], np.cumsum(correct_N[order], dtype=np.int64)
        total = len(falling)
        sizes = np.geomspace(min(_FEWEST_IMAGES, max(total, 1)), max(total, 1), _MOST_POINTS - 1).round().astype(int)
        # all images of the confidence of the last one are above the threshold with it; above 0 are all
        ends = np.searchsorted(-falling, -falling[np.unique(sizes) - 1], side="right") if total else np.zeros(0, int)
        ends = np.append(np.unique(ends[ends < total]), total).astype(np.int64)
        return cls(np.append(falling[ends[:-1] - 1], 0.0), ends, np.append(0, right)[ends])

    def first(self, precision: float) -> float | None:
        """Return the smallest threshold whose precision is shown to be at least `precision`; None where none is.

        A raw share would be no evidence: above a high enough threshold there are three images, and all are right. Here
        a threshold is passed where so many right answers would be improbable if the precision were lower, by the exact
        binomial test. Thresholds are tried in a fixed order, from the sure end on, until one fails, from five starting
        places, each at 1/5 of 5 %: then all that passed are right with a probability of 95 % (fixed-sequence testing
        with several starts; Angelopoulos et al., "Learn then test", 2021). An early mistake among the
        surest images so ends one search and not all.
        """
        from scipy.stats import binom  # takes most of a second to import

        level = ERROR / _STARTS
        able = np.flatnonzero(self.images_K >= _fewest(precision, level))
        if not len(able):
            return None
        chance_K = binom.sf(self.right_K - 1, self.images_K, precision)
        passed = chance_K <= level
        reached = -1
        for start in np.unique(np.linspace(able[0], able[-1], _STARTS + 1)[:-1].round().astype(int)):
            failed = np.flatnonzero(~passed[start:])
            end = start + int(failed[0]) if len(failed) else len(passed)
            if end > start:
                reached = max(reached, end - 1)
        return None if reached < 0 else float(self.threshold_K[reached])

    def why_not(self, precision: float) -> str:
        """Say in one sentence why `first` returns None."""
        images, fewest = int(self.images_K[-1]), _fewest(precision, ERROR / _STARTS)
        if images < fewest:
            needed = "no number of images shows it" if math.isinf(fewest) else f"it takes {fewest:,.0f} to show it"
            return f"a precision of {precision:g} cannot be shown on {images:,} images: {needed}."
        shares = self.right_K / np.maximum(self.images_K, 1)
        best = int(np.argmax(np.where(self.images_K >= fewest, shares, -1.0)))
        return (
            f"no threshold shows a precision of {precision:g}: the best, {self.threshold_K[best]:.3f}, is right in "
            f"{self.right_K[best]:,} of {self.images_K[best]:,} images ({shares[best]:.3f})."
        )


def _fewest(precision: float, level: float) -> float:
    """Return how many images, all right, show a precision at this level."""
    if precision <= 0:
        return 1
    return math.inf if precision >= 1 else math.ceil(math.log(level) / math.log(precision))
