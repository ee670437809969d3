"""The paper's Figure 3: how often each strategy of sampling draws each class."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ltrsys.data.config import make_sampler
from ltrsys.data.plan.sampling import class_weights
from ltrsys.reporting.style import drawn, legend_below


def plot_sampling(train_counts: NDArray[np.int64], path: Path) -> None:
    """Draw the sampling weights p_j of the four strategies (Figure 3); progressive at t/T = 1/4, 1/2 and 3/4."""
    with drawn(path) as figure:
        axes = figure.add_subplot()
        draw_fixed_sampling(axes, train_counts)
        draw_progressive_sampling(axes, train_counts, {f"progressive, t/T = {t / 4:g}": (t, 4) for t in (1, 2, 3)})
        axes.set_title("Sampling weights", fontsize=12)
        legend_below(axes, columns=2)


def plot_sampling_by_epoch(train_counts: NDArray[np.int64], num_epochs: int, path: Path) -> None:
    """Draw the paper's two panels: p_j of the strategies that stay the same, and of progressive over the epochs.

    Args:
        train_counts: Training images of each class, [C].
        num_epochs: Epochs of the training, the paper's T.
        path: The picture.
    """
    shown = sorted({1, *(max(1, round(num_epochs * quarter / 4)) for quarter in (1, 2, 3, 4))})
    with drawn(path, width=12) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        draw_fixed_sampling(left, train_counts)
        left.set_title("Sampling weights", fontsize=12)
        legend_below(left, columns=3)
        draw_progressive_sampling(right, train_counts, {f"t = {epoch}": (epoch, num_epochs) for epoch in shown})
        right.set_ylabel("")
        right.set_title(f"Progressively-balanced, epoch t of T = {num_epochs}", fontsize=12)
        legend_below(right, columns=5)


def draw_fixed_sampling(axes: Axes, train_counts: NDArray[np.int64]) -> None:
    """Draw p_j of instance-balanced, square-root and class-balanced sampling, classes sorted by n_j.

    Args:
        axes: Where to draw; the axis of p_j becomes logarithmic.
        train_counts: Training images of each class, [C].
    """
    counts = _descending(train_counts)
    strategies = {
        "instance-balanced": (make_sampler(kind="instance"), "#0072B2", "solid"),
        "square-root": (make_sampler(kind="square_root"), "#E69F00", "dashdot"),
        "class-balanced": (make_sampler(kind="class_balanced"), "#009E73", "dashed"),
    }
    for name, (sampler, color, style) in strategies.items():
        weights = class_weights(counts, sampler).probabilities
        axes.plot(np.arange(1, len(counts) + 1), weights, color=color, linestyle=style, linewidth=2.4, label=name)
    _class_axis(axes, len(counts))


def draw_progressive_sampling(
    axes: Axes, train_counts: NDArray[np.int64], epochs: Mapping[str, tuple[int, int]]
) -> None:
    """Draw p_j of progressively-balanced sampling at several epochs, classes sorted by n_j.

    Args:
        axes: Where to draw; the axis of p_j becomes logarithmic.
        train_counts: Training images of each class, [C].
        epochs: The paper's t and T of each line, by what the legend calls it.
    """
    counts, progressive = _descending(train_counts), make_sampler(kind="progressive")
    styles = [(0, (1, 1.2)), (0, (3, 1.5)), (0, (5, 1.5)), (0, (8, 1.5)), "solid"]
    colors = matplotlib.colormaps["plasma"](np.linspace(0, 0.8, len(epochs)))  # from dark to light: told apart in grey
    for (name, (epoch, num_epochs)), style, color in zip(epochs.items(), styles, colors, strict=False):
        weights = class_weights(counts, progressive, epoch=epoch - 1, num_epochs=num_epochs).probabilities
        axes.plot(np.arange(1, len(counts) + 1), weights, color=color, linestyle=style, linewidth=1.8, label=name)
    _class_axis(axes, len(counts))


def _descending(train_counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return train_counts[np.argsort(-train_counts, kind="stable")]


def _class_axis(axes: Axes, num_classes: int) -> None:
    axes.set_yscale("log")
    axes.set_xlim(0.5, num_classes + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("class, from the most to the fewest training images")
    axes.set_ylabel("probability of drawing the class")
