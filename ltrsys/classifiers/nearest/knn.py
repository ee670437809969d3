"""The classes of the nearest training images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn, tried
from ltrsys.section import Count, Fraction, Section

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ltrsys.features.bank import BankSplit


class KNNConfig(Section):
    """The nearest training images."""

    k: Count = 20
    """How many of them vote; all, where there are fewer."""
    gamma: Fraction = 0.5
    """The votes for a class of n training images are divided by n^gamma: 0 counts votes, 1 their share of the class."""
    distance: Literal["cosine", "euclidean"] = "cosine"


@CLASSIFIERS.register
@dataclass(frozen=True)
class NearestNeighbours(Classifier[KNNConfig]):
    """The logarithm of v_j / n_j^gamma, v_j of the k nearest training images being of class j, which has n_j.

    A class that none of them is of has the votes that one image drawn at random would give it, n_j / n: fewer than one,
    so that it ranks below those that have some. The features of all training images are part of the classifier. They
    are memory-mapped, and compared block by block.
    """

    name = "knn"
    summary = "the classes of the k nearest training images, votes divided by a power of the class sizes"
    source = "Cover and Hart, 1967"
    order = 14
    label, color, marker = "kNN", "#DDCC77", "P"
    Config = KNNConfig
    grid = tried(k=(20, 5, 50), gamma=(0.5, 0.0, 1.0))
    has_weight_norms = False

    features_nD: Tensor
    """Of the training images, float32; they lie in the bank's file, or in its own."""
    labels_n: Tensor
    """Of these, and then of those that were added."""
    counts_C: Tensor
    """Training images of each class, int64."""
    config: KNNConfig
    added_mD: Tensor | None = None
    """Of images of classes that were added."""
    mapped: NDArray[np.float32] | None = None
    """The bank's array that `features_nD` lies in: memory that was read of it is given back."""

    @classmethod
    def fit(cls, context: FitContext, config: KNNConfig) -> Self:
        """Take the training features as they are; nothing is read of them yet."""
        import torch

        train = context.train
        labels_n, counts_C = (
            torch.from_numpy(array.copy()).to(context.device) for array in (train.labels, train.class_counts)
        )
        return cls(_shared(train.features), labels_n, counts_C, config, mapped=train.features)

    @classmethod
    def sweep(cls, context: FitContext, configs: Sequence[KNNConfig], split: BankSplit) -> NDArray[np.int64]:
        """Search once for each distance, for the largest k."""
        import torch

        from ltrsys.kernels import top_classes
        from ltrsys.progress import progress

        most = {one.distance: max(other.k for other in configs if other.distance == one.distance) for one in configs}
        widest = {distance: cls.fit(context, KNNConfig(k=k, distance=distance)) for distance, k in most.items()}
        blocks = []
        with progress("nearest images", len(split)) as advance, torch.inference_mode():
            for features_ND, labels_N in split.blocks(context.device):
                found = {distance: one.neighbours(features_ND) for distance, one in widest.items()}
                scores = (replace(widest[one.distance], config=one).votes(found[one.distance]) for one in configs)
                blocks.append(torch.stack([top_classes(scores_NC, 1)[:, 0] for scores_NC in scores]).cpu())
                advance(len(labels_N))
        predictions: NDArray[np.int64] = torch.cat(blocks, dim=1).numpy()
        return predictions

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the logarithms of the divided votes, [N, C]; minus infinity for a class without a training image."""
        return self.votes(self.neighbours(features_ND))

    def neighbours(self, features_ND: Tensor) -> Tensor:
        """Return the rows of the k nearest training images of each feature, int64 [N, k], nearest first.

        Exact within a block of training images; between blocks, distances that float32 cannot tell apart count as the
        same. Of the same, the image that stands first is nearer.
        """
        import torch

        from ltrsys.kernels import ncm_search

        k, distance = self.config.k, self.config.distance
        best_Nk, rows_Nk = features_ND.new_empty(len(features_ND), 0), self.labels_n.new_empty(len(features_ND), 0)
        for first, block_BD in self._blocks(features_ND.device):
            found_Nk, within_Nk = ncm_search(features_ND, block_BD, min(k, len(block_BD)), distance)
            best_Nk, order_Nk = torch.cat([best_Nk, found_Nk], dim=1).sort(dim=1, descending=True, stable=True)
            rows_Nk = torch.cat([rows_Nk, first + within_Nk], dim=1).gather(1, order_Nk)
            best_Nk, rows_Nk = best_Nk[:, :k], rows_Nk[:, :k]
        return rows_Nk

    def votes(self, rows_Nk: Tensor) -> Tensor:
        """Return the scores of features whose nearest training images these are, [N, C]; the first k of them vote."""
        from ltrsys.models.scoring import divided_votes

        return divided_votes(self.labels_n[rows_Nk[:, : self.config.k]], self.counts_C, self.config.gamma)

    def _blocks(self, device: torch.device) -> Iterator[tuple[int, Tensor]]:
        """Yield the features of some training images at a time, and where they begin."""
        from ltrsys.features.bank import BLOCK_ROWS, give_back

        first = 0
        for part_nD in (self.features_nD, self.added_mD):
            for block_BD in () if part_nD is None else part_nD.split(BLOCK_ROWS):
                yield first, block_BD.to(device)
                first += len(block_BD)
                if self.mapped is not None:
                    give_back(self.mapped)

    def module(self) -> nn.Module:
        """Return the search as one product with all training images."""
        import torch

        from ltrsys.models.scoring import NeighbourVotes

        config = self.config
        features_nD = self.features_nD if self.added_mD is None else torch.cat([self.features_nD, self.added_mD])
        return NeighbourVotes(features_nD, self.labels_n, self.counts_C, config.k, config.gamma, config.distance)

    def with_classes(self, features_ND: Tensor, labels_N: Tensor, num_new: int) -> Self:
        """Return it with the images of more classes beside its own."""
        import torch

        added = features_ND if self.added_mD is None else torch.cat([self.added_mD, features_ND])
        labels_n = torch.cat([self.labels_n, len(self.counts_C) + labels_N])
        counts_C = torch.cat([self.counts_C, torch.bincount(labels_N, minlength=num_new)])
        return replace(self, labels_n=labels_n, counts_C=counts_C, added_mD=added)

    def params(self) -> dict[str, Any]:
        """Return k, gamma and the distance."""
        return self.config.model_dump(mode="json")

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say k, gamma and the distance."""
        return f"k = {params['k']}, γ = {params['gamma']:.4g}, {params['distance']}"

    def tensors(self) -> dict[str, Tensor]:
        """Return features and labels of all training images, and how many each class has."""
        tensors = {"features": self.features_nD, "labels": self.labels_n, "counts": self.counts_C}
        return tensors | ({} if self.added_mD is None else {"added": self.added_mD})

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from these."""
        config = KNNConfig(**params)
        return cls(tensors["features"], tensors["labels"], tensors["counts"], config, tensors.get("added"))


def _shared(features_nD: NDArray[np.float32]) -> Tensor:
    """Return a tensor in the memory of an array, which nobody writes to."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an array of a file that is opened for reading alone
        return torch.from_numpy(features_nD)
