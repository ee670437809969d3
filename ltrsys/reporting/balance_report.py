"""RUN/report: the plots of the second stage and the table per class."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltrsys.classifiers.base import CLASSIFIERS, Classifier
from ltrsys.data.index.dataset import Dataset
from ltrsys.evaluation.results import Results
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.files import replaced
from ltrsys.metrics.accuracy import class_accuracy
from ltrsys.reporting.calibration import plot_calibration
from ltrsys.reporting.plots import plot_accuracy, plot_tau, plot_trade_off, plot_weight_norms
from ltrsys.reporting.sampling import plot_sampling
from ltrsys.reporting.table import parameters


@dataclass(frozen=True)
class BalanceReport:
    """What is written for some results, and where."""

    folder: Path
    results: Results

    @property
    def plots(self) -> dict[str, Path]:
        """The plots, by name."""
        names = ["accuracy_by_split", "sampling_weights"]
        if self._normed:
            names.append("weight_norms")
        if self.results.tau_curve:
            names.append("accuracy_by_tau")
        if self._traded:
            names.append("trade_off")
        if any(line.calibration is not None for line in self.results.results):
            names.append("calibration")
        return {name: self.folder / f"{name}.png" for name in names}

    @property
    def per_class(self) -> Path:
        """The table with one line per class."""
        return self.folder / "per_class.csv"

    @property
    def complete(self) -> bool:
        """Whether every file is there."""
        return all(path.exists() for path in (*self.plots.values(), self.per_class))

    def write(self, dataset: Dataset, evaluated: EvaluatedSplit, classifiers: Sequence[Classifier[Any]]) -> None:
        """Draw the plots and write the table of the classifiers in `results`."""
        plots = self.plots
        plot_accuracy(self.results, plots["accuracy_by_split"])
        plot_sampling(evaluated.train_counts, plots["sampling_weights"])
        if self._normed:
            norms = {
                classifier.name: weight.norm(dim=1).cpu().numpy()
                for classifier in classifiers
                if (weight := classifier.weight()) is not None
            }
            plot_weight_norms(norms, evaluated.train_counts, evaluated.shots, plots["weight_norms"])
        tau = self.results.line("tau")
        if self.results.tau_curve and tau:
            plot_tau(
                self.results.tau_curve,
                tau.params["tau"],
                split=self.results.split,
                chosen_how=parameters(tau),
                path=plots["accuracy_by_tau"],
            )
        if self._traded:
            plot_trade_off(self.results, plots["trade_off"])
        if "calibration" in plots:
            plot_calibration(self.results, plots["calibration"])
        self._write_per_class(dataset, evaluated, classifiers)

    @property
    def _traded(self) -> bool:
        """Whether any line has a curve from many- to few-shot accuracy."""
        curves = [line.tilt.curve for line in self.results.results if line.tilt is not None]
        return any(None not in (*curve.many, *curve.few) for curve in curves)

    @property
    def _normed(self) -> list[str]:
        return [
            line.classifier
            for line in self.results.results
            # a joint classifier that names its head has a cosine one, of which no length means anything
            if CLASSIFIERS.get(line.classifier).has_weight_norms and "head" not in line.params
        ]

    def _write_per_class(
        self, dataset: Dataset, evaluated: EvaluatedSplit, classifiers: Sequence[Classifier[Any]]
    ) -> None:
        labels, num_classes = evaluated.split.labels, dataset.num_classes
        accuracies = [
            class_accuracy(labels, evaluated.predictions(classifier) == labels, num_classes)
            for classifier in classifiers
        ]
        images, shots = np.bincount(labels, minlength=num_classes), evaluated.shot_of_class
        with replaced(self.per_class, "w") as file:
            writer = csv.writer(file, lineterminator="\n")
            names = [classifier.name for classifier in classifiers]
            writer.writerow(["class", "name", "shot", "train_images", f"{evaluated.name}_images", *names])
            for class_id, record in enumerate(dataset.record.classes):
                values = ["" if np.isnan(column[class_id]) else f"{column[class_id]:.2f}" for column in accuracies]
                counts = [int(evaluated.train_counts[class_id]), int(images[class_id])]
                writer.writerow([class_id, record.name, shots[class_id], *counts, *values])


def read_per_class(path: Path) -> tuple[list[str], list[list[object]]]:
    """Return the columns and the rows of the table per class: numbers as numbers, None where there is none."""
    with open(path, encoding="utf-8", newline="") as file:
        columns, *rows = csv.reader(file)
    texts = {columns.index("name"), columns.index("shot")}
    return columns, [
        [value if place in texts else (float(value) if value else None) for place, value in enumerate(row)]
        for row in rows
    ]
