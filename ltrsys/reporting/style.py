"""How the plots look: one colour and marker a classifier or series, told apart by the colour-blind too."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ltrsys.files import write_with

# Okabe and Ito's palette
SHOT_COLORS = {
    "many": "#0072B2",
    "medium": "#009E73",
    "few": "#D55E00",
    "all": "#000000",
    "mean_class_accuracy": "#CC79A7",
}
SHOT_MARKERS = {"many": "o", "medium": "^", "few": "s", "all": None, "mean_class_accuracy": "X"}

SERIES = [
    ("#0072B2", "o"), ("#E69F00", "D"), ("#009E73", "^"), ("#CC79A7", "s"), ("#D55E00", "v"), ("#000000", "X"),
    ("#56B4E9", "P"), ("#7F7F7F", "*"),
]  # fmt: skip
"""Colour and marker of the first, the second, ... of what has no colour of its own."""

_SETTINGS: dict[Any, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
}


@contextmanager
def drawn(path: Path, *, width: float = 7.5, height: float = 4.6) -> Iterator[Figure]:
    """Yield an empty figure, in inches, that is written to `path` when the block ends, in the format of its suffix."""
    # a figure without pyplot: no window system is asked for, and nothing stays in memory
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height))
        yield figure
        write_with(path, lambda name: figure.savefig(name, format=path.suffix.removeprefix(".")))


ONE_ROW = 5
"""Names of classifiers that stand side by side."""


def columns_for(names: int) -> int:
    """Return the columns of a legend of classifiers: one row of a few, and fewer columns where names may be long."""
    return names if names <= ONE_ROW else ONE_ROW - 1


def legend_below(axes: Axes, *, columns: int, gap: float = 0.16) -> None:
    """Put the legend under the x axis, where it covers no data."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -gap), ncols=columns, handlelength=2.2, columnspacing=1.6)
