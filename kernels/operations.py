"""The operations as their users call them: shapes and types are checked here, `registration` does the rest.

N samples, C classes, D features, T values of tau.
"""

import torch
from torch import Tensor

from ltrsys.kernels import checks, registration
from ltrsys.kernels.checks import Metric
from ltrsys.kernels.reproducible_sums import Quantum


def row_norms(weight_CD: Tensor) -> Tensor:
    """L2 norms of class weights for `tau_logits`, which need not measure or check weights that stay as they are again.

    Args:
        weight_CD: Class weights, [C, D].

    Returns:
        float64 [C], infinity or NaN for a row that holds one; without a gradient.

    Raises:
        ValueError: For what is no matrix.
    """
    checks.check_matrix(weight_CD, "weight")
    return registration.row_norms(weight_CD.detach())


def tau_logits(
    features_ND: Tensor,
    weight_CD: Tensor,
    tau: float | Tensor,
    scale: Tensor | None = None,
    norms: Tensor | None = None,
) -> Tensor:
    """Logits of a classifier whose weights are divided by their norms to the power tau (paper, equation 3).

    Args:
        features_ND: Features, [N, D].
        weight_CD: Class weights, [C, D]. A row of zeros gives the logit 0 whatever tau is.
        tau: 0 is the plain classifier without bias, 1 normalises fully; a scalar tensor can be learned.
        scale: A further factor per class, [C]; with tau = 0 this is learnable weight scaling (equation 4).
        norms: `row_norms` of these very weights, float64 [C], for many calls with the same.

    Returns:
        [N, C], float64 if an input is, else float32; differentiable in features, weight, tau and scale.

    Raises:
        ValueError: For shapes that do not fit, and for features or weights that are NaN or infinite.
    """
    checks.check_matrix(features_ND, "features")
    checks.check_class_vectors(weight_CD, "weight", features_ND)
    if scale is not None:
        checks.check_per_class(scale, weight_CD.shape[0], features_ND)
    if norms is not None:
        checks.check_norms(norms, weight_CD)
    if not isinstance(tau, Tensor):
        if tau == 0:
            return registration.tau_logits(features_ND, weight_CD, norms, None, scale)
        # filled on the device: a GPU would have to be waited for before a number is copied to it
        tau = torch.full((), tau, dtype=torch.float64, device=features_ND.device)
    checks.check_tau(tau)
    return registration.tau_logits(features_ND, weight_CD, row_norms(weight_CD) if norms is None else norms, tau, scale)


def tau_sweep(features_ND: Tensor, weight_CD: Tensor, taus: Tensor) -> Tensor:
    """Predictions of the tau-normalised classifier for each tau of a grid, from one product.

    The answer is that of exact arithmetic, as float64 gives it; a faster and less exact product only decides which
    classes need no closer look (`ltrsys.kernels.rounding` has the proof).

    Args:
        features_ND: Features, [N, D].
        weight_CD: Class weights, [C, D].
        taus: The grid, [T].

    Returns:
        int64 [T, N], the arg max over the classes; ties go to the lower class id.

    Raises:
        ValueError: For shapes that do not fit, for features, weights or taus that are NaN or infinite, and for a tau
            with which a factor |w_j|^-tau is above 1e200 or below 1e-200.
    """
    checks.check_matrix(features_ND, "features")
    checks.check_class_vectors(weight_CD, "weight", features_ND)
    checks.check_taus(taus)
    return registration.tau_sweep(features_ND, weight_CD, taus.double())


def ncm_search(
    features_ND: Tensor,
    class_means_CD: Tensor,
    k: int = 1,
    metric: Metric = "cosine",
    center: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the k nearest class means of each feature (paper, section 4, NCM).

    The classes are those of exact arithmetic, as float64 gives it, like those of `tau_sweep`; the scores have
    float32's precision. A backward pass through them is an error, as through `class_sums`: only `tau_logits` has one.

    Args:
        features_ND: Features, [N, D].
        class_means_CD: Class means, [C, D], in the space of the centred features if `center` is given.
        k: How many, 1 to C.
        metric: `cosine` of the angle between them, 0 for a vector of zeros, or `euclidean`: minus the distance.
        center: Subtracted from the features, [D].

    Returns:
        Scores, [N, k], float64 if an input is, else float32, and classes, int64 [N, k]; best first, ties by the lower
        class id.

    Raises:
        ValueError: For shapes that do not fit, an unknown metric, and features or means that are NaN or infinite.
    """
    checks.check_matrix(features_ND, "features")
    checks.check_class_vectors(class_means_CD, "class_means", features_ND)
    checks.check_search(k, metric, class_means_CD.shape[0])
    if center is not None:
        checks.check_center(center, features_ND)
    return registration.ncm_search(features_ND, class_means_CD, k, metric, center)


def class_sums(
    features_ND: Tensor, labels_N: Tensor, num_classes: int, normalize: bool = False, center: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum the features of each class; divided by the counts, its mean.

    The same bits for any order of the rows: the additions are exact (`ltrsys.kernels.reproducible_sums`). For features
    that come in blocks there is `ClassSums`. Not differentiable.

    Args:
        features_ND: Features, [N, D].
        labels_N: Class ids, int64 [N].
        num_classes: C.
        normalize: Divide each feature, centred if so asked, by its L2 norm first; zero stays zero.
        center: Subtracted from each feature first, [D].

    Returns:
        Sums, [C, D], float64 if the features are, else float32, and counts, int64 [C]; both zero for a class without a
        sample.

    Raises:
        ValueError: For shapes that do not fit, labels out of range, and features that are NaN or infinite.
    """
    checks.check_matrix(features_ND, "features")
    checks.check_labels(labels_N, features_ND.shape[0])
    if center is not None:
        checks.check_center(center, features_ND)
    return registration.class_sums(features_ND, labels_N, num_classes, normalize, center)


class ClassSums:
    """Sums and counts of each class over blocks of features, as from a bank that is larger than memory.

    The same bits for any blocks in any order. N samples of a block, C classes, D features.
    """

    def __init__(
        self,
        num_classes: int,
        num_features: int,
        *,
        num_rows: int,
        largest: float | None = None,
        normalize: bool = False,
        center: Tensor | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Begin with zero.

        Args:
            num_classes: C.
            num_features: D.
            num_rows: At least the rows of any one class in all blocks together; more are refused.
            largest: At least the magnitude of any feature; not needed with `normalize`.
            normalize: Divide each feature, centred if so asked, by its L2 norm first; zero stays zero.
            center: Subtracted from each feature first, [D].
            device: Where the sums lie, and the features must.

        Raises:
            ValueError: Without `largest` where it is needed, or where it is not finite, or too large or small for
                exact sums.
        """
        if largest is None and not normalize:
            raise ValueError("largest: say how large a feature can be; only normalised ones are known to be at most 1.")
        if largest is not None and not 0 <= largest < torch.inf:
            raise ValueError(f"largest={largest} is not the magnitude of a feature: it must be finite, and at least 0.")
        offset = 0.0
        if center is not None:
            offset = checks.check_finite(center, "center", *checks.on_host(checks.ends_of(center)))
        self._largest = torch.inf if largest is None else float(largest)
        self._num_rows = num_rows
        self._quantum = Quantum.of(1.0 if normalize else self._largest + offset, num_rows)
        self._normalize = normalize
        self._center_D = center
        self.sums_CD = torch.zeros(num_classes, num_features, dtype=torch.float64, device=device)
        """float64."""
        self.counts_C = torch.zeros(num_classes, dtype=torch.int64, device=device)

    def add(self, features_ND: Tensor, labels_N: Tensor) -> None:
        """Add a block.

        Raises:
            ValueError: For shapes that do not fit, labels out of range, features that are NaN, infinite or larger than
                was said, and more rows of a class than was said. Nothing is added then.
        """
        checks.check_matrix(features_ND, "features")
        checks.check_labels(labels_N, features_ND.shape[0])
        if self._center_D is not None:
            checks.check_center(self._center_D, features_ND)
        registration.add_class_sums(
            self.sums_CD,
            self.counts_C,
            features_ND,
            labels_N,
            self._quantum.value,
            self._largest,
            self._num_rows,
            self._normalize,
            self._center_D,
        )

    def means(self) -> Tensor:
        """Return the means, float64 [C, D]; zero for a class without a sample."""
        return self.sums_CD / self.counts_C.clamp_min(1)[:, None]
