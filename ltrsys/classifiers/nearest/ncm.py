"""The nearest class mean classifier (paper, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn, tried
from ltrsys.section import Section

if TYPE_CHECKING:
    from torch import Tensor, nn


class NCMConfig(Section):
    """Nearest class mean."""

    feature: Literal["plain", "l2n", "cl2n"] = "cl2n"
    """Features as they are, L2-normalised, or centred by the training mean and then L2-normalised."""
    distance: Literal["euclidean", "cosine"] = "euclidean"


@CLASSIFIERS.register
@dataclass(frozen=True)
class NearestClassMean(Classifier[NCMConfig]):
    """Gives a feature the class whose mean is nearest.

    Features are taken as they are (`plain`), L2-normalised (`l2n`), or centred by the mean of all training
    features and then L2-normalised (`cl2n`). The class means are means of such features, and are not normalised
    again; `cosine` is a true cosine, so there it would make no difference.
    """

    name = "ncm"
    summary = "the class whose mean feature is nearest"
    source = "Kang et al., 2020, section 4"
    order = 10
    label, color, marker = "NCM", "#CC79A7", "s"
    Config = NCMConfig
    grid = tried(feature=("cl2n", "l2n", "plain"), distance=("euclidean", "cosine"))
    has_weight_norms = False  # lengths of mean features are no weights of a product

    means_CD: Tensor
    """[C, D]; zero for a class without a training image, which is never predicted."""
    present_P: Tensor
    """The classes with a training image, int64 [P], ascending."""
    center_D: Tensor
    """Mean of the training features; zero unless the feature is `cl2n`."""
    config: NCMConfig

    @classmethod
    def fit(cls, context: FitContext, config: NCMConfig) -> Self:
        """Measure the class means on the training features.

        One pass with `l2n`; one more where features are summed as they are, since exact sums need to know the largest;
        and a third with `cl2n`, for which the centre must be known. The same bits for any size of block.
        """
        import torch

        from ltrsys.features.class_means import largest_of_bank, sums_of_bank
        from ltrsys.progress import progress

        train, device = context.train, context.device
        passes = {"plain": 2, "l2n": 1, "cl2n": 3}[config.feature]
        with progress("class means", passes * len(train)) as advance:
            center_D = torch.zeros(train.num_features, device=device)
            if config.feature == "l2n":
                sums = sums_of_bank(train, device, advance, normalize=True)
            else:
                largest = largest_of_bank(train, device, advance)
                sums = sums_of_bank(train, device, advance, largest=largest)
                if config.feature == "cl2n":
                    center_D = (sums.sums_CD.sum(dim=0) / len(train)).float()
                    sums = sums_of_bank(train, device, advance, normalize=True, center=center_D)
        return cls(sums.means().float(), sums.counts_C.nonzero()[:, 0], center_D, config)

    def rank(self, features_ND: Tensor, k: int) -> Tensor:
        """Return the classes of the k nearest means; fewer where fewer classes have one."""
        from ltrsys.kernels import ncm_search

        features_ND, means_PD = self._normalised(features_ND), self.means_CD[self.present_P]
        _, found = ncm_search(features_ND, means_PD, k=min(k, len(means_PD)), metric=self.config.distance)
        return self.present_P[found]

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return minus the squared distance to each mean, or its cosine."""
        import torch
        from torch.nn import functional

        features_ND, means_PD = self._normalised(features_ND), self.means_CD[self.present_P]
        if self.config.distance == "cosine":
            found_NP = functional.normalize(features_ND) @ functional.normalize(means_PD).T
        else:
            found_NP = -torch.cdist(features_ND, means_PD).square()
        scores_NC = found_NP.new_full((len(features_ND), len(self.means_CD)), -torch.inf)
        scores_NC[:, self.present_P] = found_NP
        return scores_NC

    def module(self) -> nn.Module:
        """Return the linear layer that it is, of features that are normalised before, if they are.

        -|z - m|^2 is 2 m z - |m|^2 less |z|^2, which is the same for all classes. All is measured from the mean c of
        the means, 2 (m - c)(z - c) - |m - c|^2: the same, of smaller numbers.
        """
        import torch
        from torch import nn
        from torch.nn import functional

        from ltrsys.models.scoring import Normalised, linear_layer

        absent_C = torch.ones(len(self.means_CD), dtype=torch.bool, device=self.means_CD.device)
        absent_C[self.present_P] = False
        cosine = self.config.distance == "cosine"
        means_CD = self.means_CD.double()
        if cosine:
            weight_CD, bias_C = functional.normalize(means_CD), torch.zeros_like(means_CD[:, 0])
        else:
            origin_D = means_CD[self.present_P].mean(dim=0)
            from_origin_CD = means_CD - origin_D
            weight_CD = 2 * from_origin_CD
            bias_C = -(weight_CD @ origin_D) - from_origin_CD.square().sum(dim=1)
        linear = linear_layer(weight_CD.float(), bias_C.masked_fill(absent_C, -torch.inf).float())
        if self.config.feature == "plain" and not cosine:
            return linear
        return nn.Sequential(Normalised(self.center_D), linear)  # the centre of features that are not centred is zero

    def with_classes(self, features_ND: Tensor, labels_N: Tensor, num_new: int) -> Self:
        """Return it with more class means; the centre of the features stays as it is."""
        import torch

        counts_C = torch.bincount(labels_N, minlength=num_new)
        sums_CD = self.means_CD.new_zeros(num_new, self.means_CD.shape[1], dtype=torch.float64)
        sums_CD.index_add_(0, labels_N, self._normalised(features_ND).double())
        means_CD = (sums_CD / counts_C.clamp_min(1)[:, None]).float()
        return replace(
            self,
            means_CD=torch.cat([self.means_CD, means_CD]),
            present_P=torch.cat([self.present_P, len(self.means_CD) + counts_C.nonzero()[:, 0]]),
        )

    def _normalised(self, features_ND: Tensor) -> Tensor:
        from torch.nn import functional

        if self.config.feature == "plain":
            return features_ND
        return functional.normalize(features_ND - self.center_D)

    def params(self) -> dict[str, Any]:
        """Return feature and distance."""
        return self.config.model_dump(mode="json")

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say feature and distance."""
        return f"{params['feature']}, {params['distance']}"

    def tensors(self) -> dict[str, Tensor]:
        """Return the means, which classes have one, and the centre."""
        return {"means": self.means_CD, "present": self.present_P, "center": self.center_D}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from its means."""
        return cls(tensors["means"], tensors["present"], tensors["center"], NCMConfig(**params))
