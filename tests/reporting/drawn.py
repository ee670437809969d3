"""Reading figures back."""

import numpy as np
from matplotlib.figure import Figure

COUNTS = np.array([5, 400, 30, 150, 8, 60])
"""Training images of each class."""


def lines_by_label(figure: Figure) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
        for axes in figure.axes
        for line in axes.lines
    }
