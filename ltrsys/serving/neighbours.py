"""Training images that look like one that was named, as the network sees them: by the cosine of their features."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import SplitName
from ltrsys.errors import DataError
from ltrsys.features.bank import BankSplit, FeatureBank
from ltrsys.prediction.predictor import Predictor

log = logging.getLogger("ltrsys")

SPLIT: SplitName = "train"


@dataclass(frozen=True)
class Neighbour:
    """A training image."""

    sample: int
    """Its number in the train split."""
    similarity: float
    """The cosine of the angle between its features and those of the image that was named, -1 to 1."""


@dataclass(frozen=True)
class Neighbours:
    """The features of the training images, D each, memory-mapped. Any thread may ask."""

    train: BankSplit

    @classmethod
    def of(cls, predictor: Predictor) -> Self | None:
        """Open those that a predictor's classifier was fitted on; None where the run does not hold them."""
        folder = predictor.model.run.features
        if not (folder / "bank.json").exists():
            return None
        try:
            return cls(FeatureBank.open(folder).split(SPLIT, predictor.model.classifier.features))
        except DataError as error:
            log.warning("There will be no similar training images: %s", error)
            return None

    def nearest(self, features_D: NDArray[np.float32], classes: Sequence[int], count: int) -> list[list[Neighbour]]:
        """Return, for each of some classes, its `count` training images of the greatest cosine, nearest first.

        Args:
            features_D: Of the image that was named, of the kind of the bank.
            classes: Numbers of classes.
            count: Fewer are returned of a class that has fewer.
        """
        return [self._nearest_of(features_D, self.train.rows_of_class[number], count) for number in classes]

    def _nearest_of(self, features_D: NDArray[np.float32], rows_n: NDArray[np.int64], count: int) -> list[Neighbour]:
        rows_nD = self.train.features[rows_n]
        norms_n = np.linalg.norm(rows_nD, axis=1) * np.linalg.norm(features_D)
        cosines_n = rows_nD @ features_D / np.maximum(norms_n, np.finfo(np.float32).tiny)
        best_k = np.argsort(-cosines_n, kind="stable")[:count]
        return [Neighbour(int(rows_n[place]), float(np.clip(cosines_n[place], -1, 1))) for place in best_k]
