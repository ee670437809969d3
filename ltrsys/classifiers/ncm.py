"""The nearest class mean classifier (paper, section 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ltrsys.classifiers.base import Classifier, ClassifierName, SelectedOn
from ltrsys.classifiers.config import NCMConfig
from ltrsys.features.bank import BankSplit
from ltrsys.kernels import ClassSums, ncm_search
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
        """Measure the class means on the training features.

        One pass with `l2n`; one more where features are summed as they are, since exact sums need to know the largest;
        and a third with `cl2n`, for which the centre must be known. The same bits for any size of block.
        """
        passes = {"plain": 2, "l2n": 1, "cl2n": 3}[config.feature]
        with progress("class means", passes * len(train)) as advance:
            center_D = torch.zeros(train.num_features, device=device)
            if config.feature == "l2n":
                sums = _sums(train, device, advance, normalize=True)
            else:
                largest = _largest(train, device, advance)
                sums = _sums(train, device, advance, largest=largest)
                if config.feature == "cl2n":
                    center_D = (sums.sums_CD.sum(dim=0) / len(train)).float()
                    sums = _sums(train, device, advance, normalize=True, center=center_D)
        return cls(sums.means().float(), sums.counts_C.nonzero()[:, 0], center_D, config)

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


def _sums(train: BankSplit, device: torch.device, advance: Advance, **options: Any) -> ClassSums:
    """Sum the features of each class over the whole split."""
    most_rows = int(train.class_counts.max())
    sums = ClassSums(train.num_classes, train.num_features, num_rows=most_rows, device=device, **options)
    for features_ND, labels_N in train.blocks(device):
        sums.add(features_ND, labels_N)
        advance(len(labels_N))
    return sums


def _largest(train: BankSplit, device: torch.device, advance: Advance) -> float:
    """Return the largest magnitude of any feature of the split."""
    largest = 0.0
    for features_ND, labels_N in train.blocks(device):
        low, high = torch.aminmax(features_ND)
        largest = max(largest, -float(low), float(high))
        advance(len(labels_N))
    return largest
