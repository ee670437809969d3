"""The paper's Figure 4, of a real network: the class that a classifier gives to each point of a plane of features."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ltrsys.errors import UsageError
from ltrsys.models.image_size import build_without_memory
from ltrsys.reporting.decision_regions import Region, plot_decision_regions
from ltrsys.reporting.style import SERIES
from ltrsys.studies.figures.base import FIGURES, Figure, Material
from ltrsys.studies.measuring import OpenRow
from ltrsys.studies.study import OpenStudy


@FIGURES.register
class DecisionRegions(Figure):
    """A panel for each row: its decision regions, and the training images as dots."""

    name = "decision_regions"
    summary = "the decision regions of classifiers in the plane of a network's two features"
    source = "Kang et al., 2020, Figure 4"
    order = 40

    @classmethod
    def check(cls, study: OpenStudy) -> None:
        """Refuse several seeds or runs, which have planes of their own, and a network of more features than two."""
        begin = f"{study.path}: figure: {cls.name}"
        runs = study.study.runs_of_rows
        if len(runs) > 1:
            raise UsageError(f"{begin} is of one run, and there are rows of {', '.join(runs)}.")
        (training, *others) = study.of(runs[0])
        if others:
            raise UsageError(f"{begin} is of one training, and run `{runs[0]}` has {1 + len(others)} seeds. Give one.")
        features = build_without_memory(training.config.model).feature_dim
        if features != 2:
            raise UsageError(
                f"{begin} is drawn in the plane of two features, and model.backbone={training.config.model.backbone} "
                f"of run `{runs[0]}` has {features}. Take lenet_2d."
            )

    @classmethod
    def draw(cls, material: Material, path: Path) -> None:
        """Draw all panels on the same scale.

        Raises:
            UsageError: Where there are more classes than can be told apart.
        """
        study = material.study.study
        opened = [material.opened(row)[0] for row in study.rows]
        dataset, train = opened[0].dataset, opened[0].bank.split("train")
        if dataset.num_classes > len(SERIES):
            raise UsageError(
                f"{material.study.path}: figure: {cls.name}: {dataset.num_classes} classes are more than can be told "
                f"apart, which is {len(SERIES)}."
            )
        regions = [_region(row.label, one) for row, one in zip(study.rows, opened, strict=True)]
        names = [
            f"{record.name}: {count} training images"
            for record, count in zip(dataset.record.classes, train.class_counts, strict=True)
        ]
        plot_decision_regions(regions, np.asarray(train.features), train.labels, names, study.title, path)


def _region(label: str, opened: OpenRow) -> Region:
    classifier, device = opened.classifier(), opened.fitter.device

    def predict(points_N2: NDArray[np.float32]) -> NDArray[np.int64]:
        best: NDArray[np.int64] = classifier.rank(torch.from_numpy(points_N2).to(device), 1).cpu().numpy()[:, 0]
        return best

    weight_CD = classifier.weight() if classifier.has_weight_norms else None
    return Region(label, predict, None if weight_CD is None else weight_CD.detach().cpu().numpy())
