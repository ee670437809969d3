"""Reliability diagrams: how often answers of each confidence are right (Guo et al., 2017, figure 1)."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.evaluation.results import CalibrationLine, Reliability, Results
from ltrsys.reporting.style import drawn

_COLUMNS = 3
_SIDE = 2.7
"""Of a panel, in inches."""

_DIAGONAL, _BEFORE = "#bbbbbb", "#777777"


def plot_calibration(results: Results, path: Path) -> None:
    """Draw a panel for each classifier: accuracy over confidence before and after its temperature.

    Bins hold as many images each. On the diagonal, answers are right as often as they are sure; below it, more rarely.
    """
    lines = [(line.classifier, line.calibration) for line in results.results if line.calibration is not None]
    columns = min(_COLUMNS, len(lines))
    rows = math.ceil(len(lines) / columns)
    with drawn(path, width=_SIDE * columns + 0.5, height=_SIDE * rows + 1.1) as figure:
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, (name, calibration) in zip(panels.flat, lines, strict=False):
            _draw(axes, name, calibration)
        for axes in panels.flat[len(lines) :]:
            axes.set_visible(False)
        for place in range(columns):
            below = panels[(len(lines) - 1 - place) // columns, place]  # the last row may not reach so far
            below.set_xlabel("confidence")
            below.tick_params(labelbottom=True)
        for axes in panels[:, 0]:
            axes.set_ylabel("share that is right")
        keys = [
            Line2D([], [], color=_DIAGONAL, linewidth=1.2, label="as often as sure"),
            Line2D([], [], color=_BEFORE, marker=".", linestyle=":", label="before"),
            Line2D([], [], color="#333333", linewidth=1.6, label="after"),  # each panel has another colour
        ]
        figure.legend(handles=keys, loc="outside lower center", ncols=3, handlelength=2.2)
        figure.suptitle(f"{results.dataset}, {results.split}: how often answers of a confidence are right", fontsize=12)


def _draw(axes: Axes, name: str, calibration: CalibrationLine) -> None:
    classifier = CLASSIFIERS.get(name)
    axes.plot([0, 1], [0, 1], color=_DIAGONAL, linewidth=1.2, label="as often as sure")
    before, after = calibration.before, calibration.after
    looks = (("before", before, _BEFORE, ".", ":"), ("after", after, classifier.color, classifier.marker, "-"))
    for label, reliability, color, marker, line in looks:
        axes.plot(
            reliability.bins.confidence,
            reliability.bins.accuracy,
            color=color,
            marker=marker,
            markersize=4,
            linestyle=line,
            linewidth=1.6,
            label=label,
        )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
    axes.set_aspect("equal")
    axes.set_title(classifier.label, fontsize=11)
    axes.text(
        0.97,
        0.04,
        f"T = {calibration.temperature:.3g}\nerror {_error(before)} → {_error(after)} %",
        transform=axes.transAxes,
        ha="right",
        fontsize=9,
        color="#333333",
    )


def _error(reliability: Reliability) -> str:
    error = reliability.calibration_error["all"]
    return "–" if error is None else f"{error:.1f}"
