"""The paper's Figure 2: weight norms of the classifiers, and accuracy by tau."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.errors import UsageError
from ltrsys.evaluation.predictions import Predictions, tau_grid
from ltrsys.evaluation.results import TauCurve
from ltrsys.metrics.accuracy import ALL_COLUMNS
from ltrsys.reporting.plots import draw_tau, draw_weight_norms
from ltrsys.reporting.style import drawn
from ltrsys.studies.figures.base import FIGURES, Figure, Material
from ltrsys.studies.measuring import OpenRow
from ltrsys.studies.study import OpenStudy


@FIGURES.register
class WeightNormsAndTau(Figure):
    """Of one run: a row for each classifier whose weights are shown, joint and tau among them."""

    name = "weight_norms_and_tau"
    summary = "weight norms by class, and accuracy by tau"
    source = "Kang et al., 2020, Figure 2"
    order = 20

    @classmethod
    def check(cls, study: OpenStudy) -> None:
        """Refuse rows of several runs, one classifier twice, one without weight norms, and a study without tau."""
        rows, begin = study.study.rows, f"{study.path}: figure: {cls.name}"
        runs, classifiers = study.study.runs_of_rows, [row.classifier for row in rows]
        if len(runs) > 1:
            raise UsageError(f"{begin} is of one run, and there are rows of {', '.join(runs)}.")
        for needed in ("joint", "tau"):
            if needed not in classifiers:
                raise UsageError(f"{begin} needs a row with classifier: {needed}.")
        for name in classifiers:
            if classifiers.count(name) > 1:
                raise UsageError(f"{begin} shows each classifier once, and there are two rows with classifier: {name}.")
            if not CLASSIFIERS.get(name).has_weight_norms:
                raise UsageError(f"{begin}: {name} has no weight norms. Leave out its row.")

    @classmethod
    def draw(cls, material: Material, path: Path) -> None:
        """Draw norms and curves as means over the seeds; the band around a curve is the standard deviation.

        Raises:
            UsageError: Where a classifier is not linear, or the seeds were trained on other class counts.
        """
        opened = {row.classifier: material.opened(row) for row in material.study.study.rows}
        first = opened["tau"][0]
        for one in opened["tau"]:
            if not np.array_equal(one.split.train_counts, first.split.train_counts):
                raise UsageError(f"{material.study.path}: figure: {cls.name}: the seeds have other class counts.")
        norms = {name: _norms(material.study, name, rows) for name, rows in opened.items()}
        curve, spread = _curve(opened["tau"])
        chosen = [one.classifier().params()["tau"] for one in opened["tau"]]
        seeds = len(chosen)
        with drawn(path, width=13, height=5.6) as figure:
            left, right = figure.subfigures(1, 2, squeeze=False)[0]
            draw_weight_norms(left, norms, first.split.train_counts, first.config.shots)
            draw_tau(
                right.add_subplot(),
                curve,
                chosen,
                split=first.split.name,
                chosen_how="chosen τ",
                spread=spread if seeds > 1 else None,
            )
            if seeds > 1:
                figure.suptitle(f"{material.study.study.title}: means over {seeds} seeds", fontsize=13)


def _norms(study: OpenStudy, name: str, rows: list[OpenRow]) -> NDArray[np.float32]:
    """Return the weight norms of a classifier, divided by their mean and averaged over the seeds, [C]."""
    relative = []
    for row in rows:
        weight_CD = row.classifier().weight()
        if weight_CD is None:
            raise UsageError(f"{study.path}: figure: {study.study.figure}: {name} of this network has no weight norms.")
        lengths_C = weight_CD.norm(dim=1).cpu().numpy()
        relative.append(lengths_C / lengths_C.mean())
    return np.asarray(np.mean(relative, axis=0, dtype=np.float32))


def _curve(rows: list[OpenRow]) -> tuple[TauCurve, dict[str, NDArray[np.float64]]]:
    """Return the mean over the seeds of the accuracy by tau, and its standard deviation."""
    curves = []
    for row in rows:
        grid = tau_grid(row.config.balance)
        predictions = Predictions(row.fitter.run.predictions, row.split)
        curves.append(row.split.tau_curve(grid, predictions.by_tau(row.joint, row.bank, grid)))
    means: dict[str, list[float | None]] = {}
    spread = {}
    for column in ALL_COLUMNS:
        accuracies = np.array([getattr(curve, column) for curve in curves], dtype=np.float64)  # None becomes NaN
        means[column] = [None if np.isnan(value) else float(value) for value in accuracies.mean(axis=0)]
        spread[column] = accuracies.std(axis=0, ddof=1 if len(curves) > 1 else 0)
    return TauCurve(tau=curves[0].tau, **means), spread
