"""The paper's Figure 1: accuracy by split, classifier and sampling of the first stage."""

from pathlib import Path

from ltrsys.studies.figures.base import FIGURES, Figure, Material
from ltrsys.studies.figures.panels import draw_panels


@FIGURES.register
class Splits(Figure):
    """A panel for each column; groups by `x`, the classifier; colours and markers by `series`, the sampling."""

    name = "splits"
    summary = "accuracy in each split: classifiers side by side, a marker for each sampling of the first stage"
    source = "Kang et al., 2020, Figure 1"
    order = 10
    places_rows = True

    @classmethod
    def draw(cls, material: Material, path: Path) -> None:
        """Draw means over the seeds, with their standard deviations."""
        draw_panels(material, path, connected=False)
