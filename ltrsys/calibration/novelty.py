"""How unlike the images of the known classes an image is.

Energy: Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020, equation 4. N images, C classes, D
features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Novelty:
    """Two scores of each image, and how many calibration images are less usual."""

    energy_N: Tensor
    """float64 [N]; higher is less usual."""
    distance_N: Tensor
    """Distance of the features to the nearest class mean, float64 [N]; higher is less usual."""
    energy_share_N: Tensor
    """Share of the calibration images whose energy is at least as high, from 0 to 1, float64 [N]."""
    distance_share_N: Tensor
    """The same of the distance."""


def energy(scores_NC: Tensor, temperature: float) -> Tensor:
    """Return -T logsumexp(scores / T), float64 [N]: low where some class fits well."""
    return -temperature * torch.logsumexp(scores_NC.double() / temperature, dim=1)


def distance_to_nearest(features_ND: Tensor, means_PD: Tensor) -> Tensor:
    """Return the Euclidean distance of each feature to the nearest of the class means, float64 [N]."""
    from ltrsys.kernels import ncm_search

    found_N1, _ = ncm_search(features_ND, means_PD, k=1, metric="euclidean")
    return -found_N1[:, 0].double()


def leave_one_out_distance(features_ND: Tensor, labels_N: Tensor, means_CD: Tensor, counts_C: Tensor) -> Tensor:
    """Return the distance of training features to the nearest of the class means without the image itself, float64 [N].

    The mean m of the n images of a class becomes (n m - z) / (n - 1) without the image z, which lies n / (n - 1) times
    as far from it; the mean of a class of one image is gone.

    Args:
        features_ND: Features that the means are made of.
        labels_N: Their classes, int64 [N].
        means_CD: Class means; those of classes without an image are not looked at.
        counts_C: Images of each class, int64 [C].
    """
    from ltrsys.kernels import ncm_search

    present_P = counts_C.nonzero()[:, 0]
    found_NK, place_NK = ncm_search(features_ND, means_CD[present_P], k=min(2, len(present_P)), metric="euclidean")
    others_NK = (-found_NK.double()).masked_fill(present_P[place_NK] == labels_N[:, None], torch.inf)
    own_N = (features_ND.double() - means_CD[labels_N].double()).norm(dim=1)
    count_N = counts_C[labels_N].double()
    own_N = torch.where(count_N > 1, own_N * count_N / (count_N - 1), torch.inf)
    return torch.minimum(others_NK.amin(dim=1), own_N)


def share_less_usual(values_N: Tensor, rising_n: Tensor) -> Tensor:
    """Return the share of reference values, ascending, that are at least as high as each value, float64 [N].

    Of an image like the calibration images it is as good as uniform from 0 to 1, so that an image below 0.01 is among
    the least usual hundredth (a p-value: Bates et al., "Testing for outliers with conformal p-values", 2023).
    """
    reference = rising_n.to(values_N)
    below_N = torch.searchsorted(reference, values_N.contiguous())
    return (len(reference) - below_N).double() / max(len(reference), 1)
