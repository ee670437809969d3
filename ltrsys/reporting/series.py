"""Points with spreads at named places, in several series told apart by colour and marker."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from ltrsys.reporting.style import SERIES

LEVEL_LETTERS = 44
"""Letters that the names of an axis may have together, in a panel five inches wide, before they stand aslant."""


class Point(NamedTuple):
    """A mean and its spread."""

    mean: float
    spread: float | None
    """Half the height of the error bar; None for none."""


def draw_series(
    axes: Axes, places: Sequence[str], series: Mapping[str, Mapping[str, Point]], *, connected: bool
) -> None:
    """Draw accuracies at places of the x axis.

    Args:
        axes: Where to draw.
        places: The places, from left to right.
        series: The points of each series, by place; a place may be missing. At most `len(SERIES)` series.
        connected: Whether the points of a series are joined by a line; if not, series stand side by side.
    """
    width = 0.5
    for number, ((name, points), (color, marker)) in enumerate(zip(series.items(), SERIES, strict=False)):
        offset = 0.0 if connected else width * ((number + 0.5) / len(series) - 0.5)
        found = [(place, points[name]) for place, name in enumerate(places) if name in points]
        axes.errorbar(
            [place + offset for place, _ in found],
            [point.mean for _, point in found],
            yerr=[point.spread or 0.0 for _, point in found] if any(point.spread for _, point in found) else None,
            color=color,
            marker=marker,
            markersize=7,
            linestyle="solid" if connected else "none",
            linewidth=1.6,
            elinewidth=1.4,
            capsize=3,
            label=name,
        )
    aslant = sum(map(len, places)) > LEVEL_LETTERS
    axes.set_xticks(np.arange(len(places)), places)
    if aslant:
        axes.tick_params(axis="x", labelrotation=25)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.5, len(places) - 0.5)
    if not connected:
        axes.grid(visible=False, axis="x")
        for boundary in np.arange(len(places) - 1) + 0.5:
            axes.axvline(boundary, color="#bbbbbb", linewidth=0.8)
    axes.set_ylabel("top-1 accuracy (%)")
