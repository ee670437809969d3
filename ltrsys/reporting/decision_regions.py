"""The paper's Figure 4: decision regions in the plane of two features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from ltrsys.reporting.style import SERIES, drawn

RESOLUTION = 400
"""Points of the plane that are classified, along each side."""
TINT = 0.3


@dataclass(frozen=True)
class Region:
    """One panel."""

    title: str
    predict: Callable[[NDArray[np.float32]], NDArray[np.int64]]
    """From features, [n, 2], to classes, [n]."""
    weight_C2: NDArray[np.float32] | None
    """The weight vector of each class, drawn as an arrow; None where there are none."""


def plot_decision_regions(
    regions: Sequence[Region],
    features_N2: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    names: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Draw which class each classifier gives to each point of the plane, and the images as dots.

    Args:
        regions: The classifiers, from left to right; all panels show the same part of the plane.
        features_N2: Of the images.
        labels_N: Their classes.
        names: What the legend says of each class; at most `len(SERIES)`.
        title: Above all panels.
        path: The picture.
    """
    low, high = _square(features_N2)
    steps = np.linspace(0, 1, RESOLUTION, dtype=np.float32)[:, None] * (high - low) + low
    points_N2 = np.stack(np.meshgrid(steps[:, 0], steps[:, 1]), axis=-1).reshape(-1, 2)
    # square panels get no more than their width: the rest of the height is for titles and legend
    with drawn(path, width=4.4 * len(regions), height=5.7) as figure:
        panels = figure.subplots(1, len(regions), sharex=True, sharey=True, squeeze=False)[0]
        for axes, region in zip(panels, regions, strict=True):
            classes_YX = region.predict(points_N2).reshape(RESOLUTION, RESOLUTION)
            _fill(axes, steps, classes_YX, len(names))
            for label, (name, (color, marker)) in enumerate(zip(names, SERIES, strict=False)):
                own = features_N2[labels_N == label]
                axes.plot(
                    *own.T, linestyle="none", color=color, marker=marker, markersize=5, markeredgecolor="white",
                    markeredgewidth=0.5, label=name, zorder=3,
                )  # fmt: skip
            if region.weight_C2 is not None:
                _arrows(axes, region.weight_C2, float((high - low).min()))
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xlabel="feature 1")
            axes.grid(visible=False)
            axes.set_title(region.title, fontsize=12)
        panels[0].set_ylabel("feature 2")
        figure.suptitle(title, fontsize=13)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names))


def _square(features_N2: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two corners of a square that holds all features and the origin, from which weight vectors begin."""
    least, most = np.minimum(features_N2.min(axis=0), 0), np.maximum(features_N2.max(axis=0), 0)
    half = 0.56 * max(float((most - least).max()), 1e-6)
    middle = (least + most) / 2
    return middle - half, middle + half


def _fill(axes: Axes, steps: NDArray[np.float32], classes_YX: NDArray[np.int64], num_classes: int) -> None:
    colors = ListedColormap([color for color, _ in SERIES[:num_classes]])
    extent = (*steps[[0, -1], 0], *steps[[0, -1], 1])
    axes.imshow(
        classes_YX, cmap=colors, vmin=-0.5, vmax=num_classes - 0.5, alpha=TINT, extent=extent, origin="lower",
        interpolation="nearest",
    )  # fmt: skip
    for label in range(num_classes):  # lines part the regions for those who do not tell the tints apart
        inside = (classes_YX == label).astype(float)
        axes.contour(steps[:, 0], steps[:, 1], inside, levels=[0.5], colors="#333333", linewidths=0.8)


def _arrows(axes: Axes, weight_C2: NDArray[np.float32], side: float) -> None:
    """Draw the weight vectors from the origin, the longest a third of the panel long."""
    scale = side / 3 / float(np.linalg.norm(weight_C2, axis=1).max())
    for label, (x, y) in enumerate(weight_C2 * scale):
        axes.annotate(
            "", (x, y), (0, 0), zorder=4,
            arrowprops={"arrowstyle": "-|>", "color": SERIES[label][0], "linewidth": 2.4, "shrinkA": 0, "shrinkB": 0,
                        "path_effects": [withStroke(linewidth=4, foreground="white")]},
        )  # fmt: skip
