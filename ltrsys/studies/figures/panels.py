"""Rows of a study at their places: what Figures 1 and 5 share."""

from pathlib import Path

from ltrsys.errors import UsageError
from ltrsys.reporting.series import Point, draw_series
from ltrsys.reporting.style import SERIES, drawn
from ltrsys.studies.figures.base import Material
from ltrsys.studies.table import title_of

COLUMNS_ABREAST = 2


def draw_panels(material: Material, path: Path, *, connected: bool) -> None:
    """Draw a panel for each column of the study that has accuracies, and one legend below them.

    Args:
        material: The study; each row has a place.
        path: The picture.
        connected: Whether the points of a series are joined by a line.

    Raises:
        UsageError: Where there are more series than can be told apart.
    """
    rows = material.study.study.rows
    places, series = (list(dict.fromkeys(getattr(row, key) for row in rows)) for key in ("x", "series"))
    if len(series) > len(SERIES):
        raise UsageError(
            f"{material.study.path}: {len(series)} series are more than can be told apart, which is {len(SERIES)}."
        )
    panels = {}
    for column in material.study.study.columns:
        points: dict[str, dict[str, Point]] = {name: {} for name in series}
        for row, line in zip(rows, material.table.lines, strict=True):
            cell = line.cells[column]
            if cell.mean is not None:
                points[row.series][row.x] = Point(cell.mean, cell.spread)
        if any(points.values()):
            panels[column] = points
    if not panels:
        raise UsageError(f"{material.study.path}: there is nothing to draw: no column of the study has an accuracy.")
    abreast = min(COLUMNS_ABREAST, len(panels))
    down = -(-len(panels) // abreast)
    with drawn(path, width=7.5 if abreast == 1 else 11, height=1.2 + 3.4 * down) as figure:
        grid = figure.subplots(down, abreast, squeeze=False).flatten()
        for axes, (column, points) in zip(grid, panels.items(), strict=False):
            draw_series(axes, places, points, connected=connected)
            axes.set_title(title_of(column), fontsize=12)
        for axes in grid[len(panels) :]:
            axes.remove()
        figure.suptitle(material.study.study.title, fontsize=13)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
