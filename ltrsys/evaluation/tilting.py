"""Classifiers on equal footing: curves over all tilts, and few-shot accuracies at equal many-shot accuracy."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltrsys.classifiers.base import Classifier, ValSplit, best_of_grid
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.tilt import log_prior, tilted_predictions
from ltrsys.evaluation.results import EqualManyShot, Line, Tilt, TiltCurve
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.features.bank import BankSplit, FeatureBank, fingerprint
from ltrsys.metrics.accuracy import ALL_COLUMNS, accuracy_by_column, paired_test, percentage, score
from ltrsys.metrics.config import SelectBy
from ltrsys.second_stage.config import BalanceConfig
from ltrsys.second_stage.store import Fitted

VERSION = 2
"""Raised when the same inputs come to give another tilt: those of before are measured anew."""

WITHOUT_VAL = 1.0
"""The tilt of the joint classifier that others are compared with where none can be chosen: right if its probabilities
are."""


@dataclass(frozen=True)
class Tilting:
    """Tilts classifiers on the reported split."""

    reported: EvaluatedSplit
    val: BankSplit | None
    """What the tilt is chosen on."""
    select_by: SelectBy
    grid: list[float]
    """The tilts, ascending."""
    joint: Joint
    _predictions: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    _best: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, reported: EvaluatedSplit, bank: FeatureBank, val: ValSplit, config: BalanceConfig, joint: Joint
    ) -> "Tilting":
        """Tilt as the section `balance` says, and choose on the split that may be selected on."""
        on = bank.split(val.name) if val.name else None
        return cls(reported, on, config.select_by, sorted(set(config.tilt_grid)), joint)

    def fingerprint(self, fit: str) -> str:
        """SHA-256 of all that a tilt depends on: `fit` is that of all that the fit of its classifier depends on."""
        own = self.reported.line_fingerprint(fit)
        return fingerprint([VERSION, own, self.grid, self.select_by, self.val is not None])

    def with_tilt(self, line: Line, fitted: Fitted) -> Line:
        """Return the line with its tilt; the one that it has, if nothing that it depends on has changed."""
        if not self.grid:
            return line.model_copy(update={"tilt": None})
        current = self.fingerprint(fitted.fingerprint)
        if line.tilt is not None and line.tilt.fingerprint == current:
            return line
        return line.model_copy(update={"tilt": self._tilt(fitted.classifier, current)})

    def few_shot_hits(self, classifier: Classifier[Any]) -> NDArray[np.bool_]:
        """Return whether each few-shot image of the reported split is right at each tilt, bool [T, few-shot images]."""
        labels = self.reported.split.labels
        few = self.reported.shot_of_class[labels] == "few"
        if not self.grid:
            return np.zeros((0, np.count_nonzero(few)), dtype=bool)
        hits: NDArray[np.bool_] = self._predict(classifier)[:, few] == labels[few]
        return hits

    def _tilt(self, classifier: Classifier[Any], current: str) -> Tilt:
        labels, shots = self.reported.split.labels, self.reported.shot_of_class
        rows = [accuracy_by_column(labels, row, shots) for row in self._predict(classifier)]
        return Tilt(
            curve=TiltCurve(t=self.grid, **{column: [row[column] for row in rows] for column in ALL_COLUMNS}),
            chosen=self._chosen(classifier),
            equal_many_shot=None if classifier.name == self.joint.name else self._equal_many_shot(classifier),
            fingerprint=current,
        )

    def _predict(self, classifier: Classifier[Any]) -> NDArray[np.int64]:
        """Return the predictions on the reported split for each tilt, int64 [T, n]; kept, as all compare with joint."""
        if classifier.name not in self._predictions:
            self._predictions[classifier.name] = self._tilted(classifier, self.reported.split)
        return self._predictions[classifier.name]

    def _tilted(self, classifier: Classifier[Any], split: BankSplit) -> NDArray[np.int64]:
        own = split.of(classifier.features)
        return tilted_predictions(
            classifier, own, log_prior(self.reported.train_counts), self.grid, self.reported.device
        )

    def _chosen(self, classifier: Classifier[Any]) -> float | None:
        """Return the tilt that is best on val, of equals the one nearest to none; None without val."""
        if self.val is None:
            return None
        if classifier.name not in self._best:
            labels, num_classes = self.val.labels, self.val.num_classes
            rows = self._tilted(classifier, self.val)
            scores = [score(labels, row, num_classes, self.select_by) or 0.0 for row in rows]
            self._best[classifier.name] = best_of_grid(self.grid, scores, cost=abs)
        return self._best[classifier.name]

    def _equal_many_shot(self, classifier: Classifier[Any]) -> EqualManyShot | None:
        """Compare few-shot accuracies where the many-shot accuracy is nearest to that of the tilted joint one."""
        labels = self.reported.split.labels
        shot_of_image = self.reported.shot_of_class[labels]
        many, few = shot_of_image == "many", shot_of_image == "few"
        if not many.any() or not few.any():
            return None
        at = reference_place(self.grid, self._chosen(self.joint))
        reference = self._predict(self.joint)[at] == labels
        correct = self._predict(classifier) == labels
        place = place_of_equal(self.grid, correct[:, many].sum(axis=1).tolist(), reference[many].sum())
        return EqualManyShot(
            t=self.grid[place],
            many=_share(correct[place, many]),
            few=_share(correct[place, few]),
            joint_many=_share(reference[many]),
            joint_few=_share(reference[few]),
            p_value=paired_test(correct[place, few], reference[few]).p_value,
        )


def place_of_equal(grid: list[float], many: list[float], wanted: float) -> int:
    """Return the place of the tilt at which many-shot accuracy is nearest to `wanted`; of equals, the smallest tilt.

    Tilts below the one that is best for many-shot classes are left out: they give up both, medium-shot classes first,
    and so pass by the same many-shot accuracy once more.

    Args:
        grid: The tilts, ascending.
        many: Many-shot accuracy at each, in any unit.
        wanted: In the same unit.
    """
    best = max(range(len(grid)), key=lambda place: (many[place], grid[place]))
    return min(range(best, len(grid)), key=lambda place: (abs(many[place] - wanted), abs(grid[place])))


def reference_place(grid: list[float], chosen: float | None) -> int:
    """Return the place in the grid of the tilt at which others are compared with a classifier: that chosen on val."""
    t = WITHOUT_VAL if chosen is None else chosen
    return min(range(len(grid)), key=lambda place: abs(grid[place] - t))


def _share(correct: NDArray[np.bool_]) -> float:
    return percentage(correct) or 0.0
