"""The nearest class mean classifier (paper, section 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ltrsys.classifiers.bank import BankSplit
from ltrsys.classifiers.base import Classifier, ClassifierName, SelectedOn
from ltrsys.config import NCMConfig
from ltrsys.kernels import class_sums, ncm_search
from ltrsys.progress import Advance, progress


@dataclass(frozen=True)
class NearestClassMean(Classifier):
    """Gives a feature the class whose mean is nearest.

    Features are taken as they are (`plain`), L2-normalised (`l2n`), or centred by the mean of all training
    features and then L2-normalised (`cl2n`). The class means are means of such features, and are not normalised
    again; `cosine` is a true cosine, so there it would make no difference.
    """

    name: ClassVar[ClassifierName] = "ncm"

    means_CD: Tensor
    """[C, D]; zero for a class without a training image, which is never predicted."""
    present_P: Tensor
    """The classes with a training image, int64 [P], ascending."""
    center_D: Tensor
    """Mean of the training features; zero unless the feature is `cl2n`."""
    config: NCMConfig

    @classmethod
    def fit(cls, train: BankSplit, config: NCMConfig, device: torch.device) -> "NearestClassMean":
        """Measure the class means on the training features: in one pass, or two with `cl2n`."""
        passes = 2 if config.feature == "cl2n" else 1
        with progress("class means", passes * len(train)) as advance:
            sums_CD, counts_C = _sums(train, config, None, device, advance)
            center_D = torch.zeros_like(sums_CD[0])
            if config.feature == "cl2n":
                center_D = sums_CD.sum(dim=0) / counts_C.sum()
                sums_CD, _ = _sums(train, config, center_D, device, advance)
        means_CD = (sums_CD / counts_C.clamp_min(1)[:, None]).float()
        return cls(means_CD, counts_C.nonzero()[:, 0], center_D.float(), config)

    def rank(self, features_ND: Tensor, k: int) -> Tensor:
        """Return the classes of the k nearest means; fewer where fewer classes have one."""
        if self.config.feature != "plain":
            features_ND = torch.nn.functional.normalize(features_ND - self.center_D)
        means_PD = self.means_CD[self.present_P]
        _, found = ncm_search(features_ND, means_PD, k=min(k, len(means_PD)), metric=self.config.distance)
        return self.present_P[found]

    def weight(self) -> Tensor:
        """Return the class means."""
        return self.means_CD

    def params(self) -> dict[str, Any]:
        """Return feature and distance."""
        return self.config.model_dump(mode="json")

    def tensors(self) -> dict[str, Tensor]:
        """Return the means, which classes have one, and the centre."""
        return {"means": self.means_CD, "present": self.present_P, "center": self.center_D}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from its means."""
        return cls(tensors["means"], tensors["present"], tensors["center"], NCMConfig(**params))


def _sums(
    train: BankSplit, config: NCMConfig, center_D: Tensor | None, device: torch.device, advance: Advance
) -> tuple[Tensor, Tensor]:
    """Sum the features of each class over the whole split, float64 [C, D], and count them, [C].

    The first pass of `cl2n`, without a centre yet, sums the plain features.
    """
    normalize = config.feature == "l2n" or center_D is not None
    sums_CD = torch.zeros(train.num_classes, train.num_features, dtype=torch.float64, device=device)
    counts_C = torch.zeros(train.num_classes, dtype=torch.int64, device=device)
    for features_ND, labels_N in train.blocks(device):
        center = None if center_D is None else center_D.float()
        block_CD, block_C = class_sums(features_ND, labels_N, train.num_classes, normalize, center)
        sums_CD += block_CD
        counts_C += block_C
        advance(len(labels_N))
    return sums_CD, counts_C
