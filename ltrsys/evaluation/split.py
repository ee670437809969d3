"""What classifiers do on one split: their lines of the results, and the accuracy by tau."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ltrsys.classifiers.base import CLASSIFIERS, Classifier
from ltrsys.classifiers.joint import Joint
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SplitName
from ltrsys.evaluation.results import ImagesPerClass, Line, Results, TauCurve, VersusJoint
from ltrsys.features.bank import BankSplit, fingerprint
from ltrsys.metrics.accuracy import (
    ALL_COLUMNS,
    accuracy_by_column,
    classes_by_shot,
    evaluate_ranking,
    images_by_shot,
    paired_test,
    shot_of_class,
)
from ltrsys.metrics.class_mean import paired_test_of_class_mean
from ltrsys.metrics.config import ShotsConfig
from ltrsys.progress import progress
from ltrsys.second_stage.store import Fitted

TOP = 5
"""Classes that are kept of each image's ranking."""


def line_fingerprint(fit: str, split: SplitName, shots: ShotsConfig) -> str:
    """SHA-256 of all that a line depends on: `fit` is that of all that the fit of its classifier depends on."""
    return fingerprint([fit, split, shots.model_dump(mode="json")])


@dataclass(frozen=True)
class EvaluatedSplit:
    """One split of the bank under evaluation."""

    name: SplitName
    split: BankSplit
    """With all kinds of features that the classifiers under evaluation take."""
    train_counts: NDArray[np.int64]
    shots: ShotsConfig
    device: torch.device
    _rankings: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def shot_of_class(self) -> NDArray[np.str_]:
        """The group of each class, [C]."""
        return shot_of_class(self.train_counts, self.shots)

    def ranking(self, classifier: Classifier[Any]) -> NDArray[np.int64]:
        """Return the best classes of every image, int64 [n, k], each image once; kept, since all compare with joint."""
        if classifier.name not in self._rankings:
            self._rankings[classifier.name] = self._rank(classifier)
        return self._rankings[classifier.name]

    def know(self, classifier: str, ranking: NDArray[np.int64]) -> None:
        """Take the ranking of a classifier from whoever has kept it."""
        self._rankings[classifier] = ranking

    def predictions(self, classifier: Classifier[Any]) -> NDArray[np.int64]:
        """Return the predicted class of every image, int64 [n]."""
        return self.ranking(classifier)[:, 0]

    def _rank(self, classifier: Classifier[Any]) -> NDArray[np.int64]:
        k = min(TOP, self.split.num_classes)
        with progress(f"{classifier.name} on {self.name}", len(self.split)) as advance:
            blocks = []
            for features, labels in self.split.of(classifier.features).blocks(self.device):
                blocks.append(classifier.rank(features, k).cpu().numpy())
                advance(len(labels))
        return np.concatenate(blocks)

    def line(self, fitted: Fitted, joint: Joint) -> Line:
        """Measure one classifier, and compare it with the joint one on the same images."""
        ranking = self.ranking(fitted.classifier)
        labels = self.split.labels
        measured = evaluate_ranking(labels, ranking, self.shot_of_class)
        versus = None
        if fitted.classifier.name != joint.name:
            correct, reference = ranking[:, 0] == labels, self.predictions(joint) == labels
            versus = VersusJoint(
                **asdict(paired_test(correct, reference)),
                mean_class_accuracy_p_value=paired_test_of_class_mean(
                    labels, correct, reference, self.split.num_classes
                ),
            )
        return Line(
            classifier=fitted.classifier.name,
            **measured.accuracy,
            params=fitted.params,
            selected_on=fitted.selected_on,
            top3=measured.top3,
            top5=measured.top5,
            mean_class_accuracy=measured.mean_class_accuracy,
            confidence_95=measured.confidence_95,
            versus_joint=versus,
            fingerprint=self.line_fingerprint(fitted.fingerprint),
        )

    def line_fingerprint(self, fit: str) -> str:
        """SHA-256 of all that a line depends on: `fit` is that of all that the fit of its classifier depends on."""
        return line_fingerprint(fit, self.name, self.shots)

    def results(
        self, dataset: Dataset, lines: Sequence[Line], curve: TauCurve | None = None, reference: str = Joint.name
    ) -> Results:
        """Put lines, in the paper's order, into the form of results.json.

        Args:
            dataset: The images.
            lines: Of classifiers.
            curve: Accuracy by tau, if that is wanted.
            reference: The classifier that the lines are compared with.
        """
        names = CLASSIFIERS.names()
        images = images_by_shot(self.split.labels, self.shot_of_class)
        return Results(
            dataset=dataset.record.name,
            num_classes=dataset.num_classes,
            split=self.name,
            classes=dict(classes_by_shot(self.shot_of_class)),
            images={column: int(chosen.sum()) for column, chosen in images.items()},
            images_per_class=self._images_per_class(),
            reference=reference,
            results=sorted(lines, key=lambda line: names.index(line.classifier)),
            tau_curve=curve,
        )

    def _images_per_class(self) -> ImagesPerClass | None:
        counts = self.split.class_counts
        some = counts[counts > 0]
        if not len(some):
            return None
        return ImagesPerClass(smallest=int(some.min()), largest=int(some.max()), empty_classes=len(counts) - len(some))

    def tau_curve(self, grid: list[float], predictions_TN: NDArray[np.int64]) -> TauCurve:
        """Measure the accuracy for each tau of a grid, of the predictions at each."""
        groups = self.shot_of_class
        rows = [accuracy_by_column(self.split.labels, row, groups) for row in predictions_TN]
        return TauCurve(tau=grid, **{column: [row[column] for row in rows] for column in ALL_COLUMNS})
