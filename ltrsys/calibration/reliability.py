"""How far the confidence of answers is from the share of them that is right: calibration error and its bins.

Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015; Guo et al., 2017, equation
3. N images. The confidence of an answer is the probability of the class that is answered.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15
"""As in Guo et al., and most papers since."""


@dataclass(frozen=True)
class Bins:
    """Images by confidence, from the least to the most sure; bins without an image are left out."""

    confidence_B: NDArray[np.float64]
    """Mean confidence of each, from 0 to 1."""
    accuracy_B: NDArray[np.float64]
    """Share of right answers in each, from 0 to 1."""
    images_B: NDArray[np.int64]

    @property
    def calibration_error(self) -> float | None:
        """The mean over the images of the distance of both in their bin, in per cent; None without images."""
        images = int(self.images_B.sum())
        if not images:
            return None
        return 100 * float((np.abs(self.accuracy_B - self.confidence_B) * self.images_B).sum()) / images


def bins(confidence_N: NDArray[np.float64], correct_N: NDArray[np.bool_], *, equal_mass: bool) -> Bins:
    """Sort images into 15 bins of equal width, or of as many images each.

    Bins of equal width are the usual ones: (0, 1/15], (1/15, 2/15], ... Where most answers are sure, nearly all images
    lie in one of them. Bins of equal mass divide at the quantiles of the confidences, and have less bias (Nixon et al.,
    "Measuring calibration in deep learning", 2019; Roelofs et al., "Mitigating bias in calibration error estimation",
    AISTATS 2022). Images of one confidence are never divided.

    Args:
        confidence_N: Confidences, from 0 to 1.
        correct_N: Whether the answer was right.
        equal_mass: Which bins.
    """
    places = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
    if equal_mass and len(confidence_N):
        places = np.quantile(confidence_N, places)
    bin_N = np.searchsorted(places, confidence_N)
    images = np.bincount(bin_N, minlength=NUM_BINS)
    some = images > 0
    confidence, accuracy = (
        np.bincount(bin_N, weights=values, minlength=NUM_BINS)[some] / images[some]
        for values in (confidence_N, correct_N.astype(np.float64))
    )
    return Bins(confidence, accuracy, images[some])
