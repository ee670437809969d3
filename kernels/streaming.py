"""Class sums over features that come in blocks, as from a bank that is larger than memory."""

import torch
from torch import Tensor

from ltrsys.kernels import registration
from ltrsys.kernels.checks import check_center, check_finite, check_labels, check_matrix, ends_of, on_host
from ltrsys.kernels.exact_sums import Quantum


class ClassSums:
    """Sums and counts of each class over any number of blocks; the same bits for any blocks in any order.

    N samples of a block, C classes, D features.
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
        offset = 0.0 if center is None else check_finite(center, "center", *on_host(ends_of(center)))
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
        check_matrix(features_ND, "features")
        check_labels(labels_N, features_ND.shape[0])
        if self._center_D is not None:
            check_center(self._center_D, features_ND)
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
