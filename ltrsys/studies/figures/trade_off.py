"""What each row of a study pays in many-shot accuracy for its few-shot accuracy, over all tilts of its scores."""

from pathlib import Path

import numpy as np

from ltrsys.errors import UsageError
from ltrsys.reporting.style import SERIES, drawn
from ltrsys.studies.figures.base import FIGURES, Figure, Material
from ltrsys.studies.study import OpenStudy


@FIGURES.register
class TradeOffs(Figure):
    """A curve for each row: few-shot over many-shot accuracy, as the scores are tilted by -t log π_j.

    A curve above another is better at any price; two points of one curve only pay another price.
    """

    name = "trade_off"
    summary = "few-shot over many-shot accuracy of each row, over all tilts of its scores"
    source = "Menon et al., 2021, section 4 (the tilt)"
    order = 60

    @classmethod
    def check(cls, study: OpenStudy) -> None:
        """Refuse a study without tilts, and more rows than can be told apart."""
        if not study.study.equal_footing:
            raise UsageError(f"{study.path}: figure: {cls.name} is of tilted scores. Give equal_footing: true.")
        if missing := [column for column in ("many", "few") if column not in study.study.columns]:
            raise UsageError(f"{study.path}: figure: {cls.name} shows many and few. Add {missing[0]} to `columns`.")
        if len(study.study.rows) > len(SERIES):
            raise UsageError(
                f"{study.path}: figure: {cls.name}: {len(study.study.rows)} rows are more than can be told apart, "
                f"which is {len(SERIES)}."
            )

    @classmethod
    def draw(cls, material: Material, path: Path) -> None:
        """Draw means over the seeds: the curve, a marker where the scores are as they are, a ring at the t of val.

        Raises:
            UsageError: Where no row has many- and few-shot classes.
        """
        rows = [(line, line.trade_off) for line in material.table.lines]
        if not any(curve for _, curve in rows):
            raise UsageError(f"{material.study.path}: there is nothing to draw: no many-shot or no few-shot classes.")
        with drawn(path, height=6.4) as figure:
            axes = figure.add_subplot()
            for (line, curve), (color, marker) in zip(rows, SERIES, strict=False):
                if curve is None:
                    continue
                axes.plot(curve.many, curve.few, color=color, linewidth=1.6)
                own = np.array([[line.cells[column].mean] for column in ("many", "few")], dtype=np.float64)
                axes.plot(*own, color=color, marker=marker, markersize=8, linestyle="none", label=line.label)
                if curve.chosen is not None:
                    axes.plot(*curve.chosen, color=color, marker="o", markersize=12, fillstyle="none")
            axes.set_xlabel("many-shot accuracy (%)")
            axes.set_ylabel("few-shot accuracy (%)")
            axes.set_title(f"{material.study.study.title}\n(marker: as it is, ring: the tilt of val)", fontsize=11)
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
