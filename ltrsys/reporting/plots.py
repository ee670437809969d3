"""The paper's Figures 1 and 2, of one's own run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from numpy.typing import NDArray

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.evaluation.results import Results, TauCurve, columns_of
from ltrsys.metrics.accuracy import ALL_COLUMNS, COLUMNS, MEAN, heading
from ltrsys.metrics.config import ShotsConfig
from ltrsys.reporting.style import SHOT_COLORS, SHOT_MARKERS, columns_for, drawn, legend_below
from ltrsys.reporting.table import counted


def plot_accuracy(results: Results, path: Path) -> None:
    """Draw the accuracy by split and classifier, with 95 % intervals (Figure 1).

    The mean over the classes stands beside `all` where the split is not balanced; on a balanced one it is `all` again.
    """
    groups = [column for column in COLUMNS if results.images[column]]
    if results.balanced is False:
        groups.append(MEAN)
    spread = 0.6
    with drawn(path) as figure:
        axes = figure.add_subplot()
        for number, line in enumerate(results.results):
            classifier = CLASSIFIERS.get(line.classifier)
            offset = spread * ((number + 0.5) / len(results.results) - 0.5)
            accuracies = np.array([columns_of(line)[column] for column in groups], dtype=np.float64)
            intervals = np.array([line.confidence_95[column] for column in groups], dtype=np.float64)
            axes.errorbar(
                np.arange(len(groups)) + offset,
                accuracies,
                yerr=np.abs(intervals.T - accuracies),
                color=classifier.color,
                marker=classifier.marker,
                markersize=7,
                linestyle="none",
                elinewidth=1.4,
                capsize=3,
                label=classifier.label,
            )
        axes.set_xticks(np.arange(len(groups)), [_group_label(results, column) for column in groups])
        axes.set_xlim(-0.5, len(groups) - 0.5)
        for boundary in np.arange(len(groups) - 1) + 0.5:
            axes.axvline(boundary, color="#bbbbbb", linewidth=0.8)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("top-1 accuracy (%)")
        axes.set_title(f"{results.dataset}, {results.split}: accuracy by split, with 95 % intervals", fontsize=12)
        legend_below(axes, columns=columns_for(len(results.results)), gap=0.14)


def plot_weight_norms(
    norms: Mapping[str, NDArray[np.float32]], train_counts: NDArray[np.int64], shots: ShotsConfig, path: Path
) -> None:
    """Draw the length of each class's weight vector, classes sorted by n_j (Figure 2, left)."""
    with drawn(path, height=5.6) as figure:
        draw_weight_norms(figure, norms, train_counts, shots)


def draw_weight_norms(
    figure: FigureBase, norms: Mapping[str, NDArray[np.float32]], train_counts: NDArray[np.int64], shots: ShotsConfig
) -> None:
    """Draw the weight norms, and the class counts below them, on an empty figure or part of one.

    Only ratios between classes move a decision, so each classifier's lengths are divided by their mean. Dots
    are classes; lines are running medians.

    Args:
        figure: Where to draw.
        norms: Lengths of the weight vectors, [C], by the classifier's name.
        train_counts: Training images of each class, [C].
        shots: Which classes are many-, medium- and few-shot.
    """
    order = np.argsort(-train_counts, kind="stable")
    rank = np.arange(1, len(order) + 1)
    window = max(1, len(order) // 20) | 1
    axes, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    every = max(1, len(order) // 8)
    for number, (name, lengths) in enumerate(norms.items()):
        classifier, relative = CLASSIFIERS.get(name), lengths[order] / lengths.mean()
        axes.plot(rank, relative, ".", markersize=3, alpha=0.35, color=classifier.color, rasterized=True)
        axes.plot(
            rank,
            _running_median(relative, window),
            color=classifier.color,
            marker=classifier.marker,
            markevery=(number * every // len(norms), every),  # side by side, where lines lie on one another
            markersize=6,
            linewidth=2.2,
            label=classifier.label,
        )
    axes.set_ylabel("weight norm / mean norm")
    axes.set_title("Weight norms by class (dots) and their running median (lines)", fontsize=12)
    below.fill_between(rank, np.maximum(train_counts[order], 0.5), 0.5, step="mid", color="#999999")
    below.set_yscale("log")
    below.set_ylabel("training\nimages")
    below.set_xlabel("class, from the most to the fewest training images")
    below.set_xlim(0.5, len(order) + 0.5)
    for panel in (axes, below):
        _mark_shots(panel, train_counts, shots)
    _name_shots(axes, train_counts, shots)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=columns_for(len(norms)), handlelength=2.2)


def plot_trade_off(results: Results, path: Path) -> None:
    """Draw few-shot over many-shot accuracy of each classifier over all tilts, with its own point and the chosen one.

    A curve above another is better at any price; two points of one curve only pay another price.
    """
    with drawn(path) as figure:
        axes = figure.add_subplot()
        for line in results.results:
            if line.tilt is None:
                continue
            classifier, curve = CLASSIFIERS.get(line.classifier), line.tilt.curve
            many, few = (np.array(values, dtype=np.float64) for values in (curve.many, curve.few))
            axes.plot(many, few, color=classifier.color, linewidth=1.8, label=classifier.label)
            own = np.array([[line.many], [line.few]], dtype=np.float64)
            axes.plot(*own, color=classifier.color, marker=classifier.marker, markersize=8)
            if line.tilt.chosen is not None:
                place = curve.t.index(line.tilt.chosen)
                axes.plot(many[place], few[place], color=classifier.color, marker="o", markersize=11, fillstyle="none")
        axes.set_xlabel("many-shot accuracy (%)")
        axes.set_ylabel("few-shot accuracy (%)")
        axes.set_title(
            f"{results.dataset}, {results.split}: each classifier over all tilts (marker: as it is, ring: t of val)",
            fontsize=11,
        )
        legend_below(axes, columns=columns_for(len(results.results)))


def plot_tau(curve: TauCurve, chosen: float, *, split: str, chosen_how: str, path: Path) -> None:
    """Draw the accuracy by tau, with the chosen tau marked (Figure 2, right).

    Args:
        curve: Accuracies on the reported split. The mean over the classes is drawn where it is not `all` again.
        chosen: The tau to mark.
        split: Name of the reported split.
        chosen_how: The chosen tau and what it was chosen on, in words.
        path: The PNG.
    """
    with drawn(path) as figure:
        draw_tau(figure.add_subplot(), curve, [chosen], split=split, chosen_how=chosen_how)


def draw_tau(
    axes: Axes,
    curve: TauCurve,
    chosen: Sequence[float],
    *,
    split: str,
    chosen_how: str,
    spread: Mapping[str, NDArray[np.float64]] | None = None,
) -> None:
    """Draw the accuracy by tau on axes.

    Args:
        axes: Where to draw.
        curve: As `plot_tau` has it; the mean over several trainings where `spread` is given.
        chosen: The tau of each training; all are marked.
        split: Name of the reported split.
        chosen_how: What stands in the legend for the marks.
        spread: Half the height of a band around each column's curve, [len(curve.tau)].
    """
    for column in ALL_COLUMNS:
        accuracies = getattr(curve, column)
        if accuracies is None or None in accuracies or (column == MEAN and accuracies == curve.all):
            continue
        axes.plot(
            curve.tau,
            accuracies,
            color=SHOT_COLORS[column],
            marker=SHOT_MARKERS[column],
            markersize=5,
            linewidth=2.6 if column in ("all", MEAN) else 1.6,
            label=heading(column),
        )
        if spread is not None:
            low, high = np.array(accuracies) - spread[column], np.array(accuracies) + spread[column]
            axes.fill_between(curve.tau, low, high, color=SHOT_COLORS[column], alpha=0.18, linewidth=0)
    for number, tau in enumerate(sorted(set(chosen))):
        label = None if number else chosen_how
        axes.axvline(tau, color="#555555", linestyle="--", linewidth=1.4, label=label, zorder=1)
    axes.set_xlabel("τ")
    axes.set_ylabel("top-1 accuracy (%)")
    axes.set_title(f"Accuracy on {split} by τ: 0 is the plain classifier, 1 normalises fully", fontsize=12)
    legend_below(axes, columns=5 if len(axes.get_legend_handles_labels()[1]) <= 5 else 3)


def _group_label(results: Results, column: str) -> str:
    if column == "all":
        return f"all\n{counted(results.num_classes, 'class', 'classes')}"
    if column == MEAN:
        return f"{heading(column)}\nover the classes"
    return f"{column}\n{counted(results.classes[column], 'class', 'classes')}"


def _shot_bounds(train_counts: NDArray[np.int64], shots: ShotsConfig) -> list[tuple[str, int, int]]:
    """Where each group begins and ends among the classes sorted by n_j."""
    many, few = int((train_counts > shots.many).sum()), int((train_counts < shots.few).sum())
    ends = [0, many, len(train_counts) - few, len(train_counts)]
    return list(zip(("many", "medium", "few"), ends[:-1], ends[1:], strict=True))


def _mark_shots(axes: Axes, train_counts: NDArray[np.int64], shots: ShotsConfig) -> None:
    for _, first, last in _shot_bounds(train_counts, shots)[:-1]:
        if first < last < len(train_counts):
            axes.axvline(last + 0.5, color="#555555", linewidth=1, linestyle=":")


def _name_shots(axes: Axes, train_counts: NDArray[np.int64], shots: ShotsConfig) -> None:
    axes.margins(y=0.12)
    for shot, first, last in _shot_bounds(train_counts, shots):
        if last > first:
            place = (first + last + 1) / 2
            axes.text(place, 0.97, shot, transform=axes.get_xaxis_transform(), ha="center", va="top", color="#333333")


def _running_median(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Median of `window` neighbours, an odd number; the ends are repeated outwards."""
    padded = np.pad(values, window // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
