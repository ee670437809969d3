"""The paper's Figure 5: accuracy over backbones."""

from pathlib import Path

from ltrsys.studies.figures.base import FIGURES, Figure, Material
from ltrsys.studies.figures.panels import draw_panels


@FIGURES.register
class Backbones(Figure):
    """A panel for each column; backbones on the x axis by `x`, in the order of the file; a line for each `series`."""

    name = "backbones"
    summary = "accuracy over backbones: a line for each method"
    source = "Kang et al., 2020, Figure 5"
    order = 50
    places_rows = True

    @classmethod
    def draw(cls, material: Material, path: Path) -> None:
        """Draw means over the seeds, with their standard deviations."""
        draw_panels(material, path, connected=True)
