"""The table of all classes."""

from ltrsys.pages.model import Part
from ltrsys.pages.panels.base import PANELS, Material, Panel


@PANELS.register
class ClassTable(Panel):
    """A row for each class, sorted and filtered at once."""

    name = "classes"
    summary = "a table of all classes that sorts and filters"
    title = "Class by class"
    explanation = (
        "The share of test images recognised, in per cent, for every class, after the number of its images in training "
        "and in the test. Press a heading to sort by it, and again "
        "to turn the order round. The box finds classes by a part of their name or of a group they belong to."
    )
    order = 20

    @classmethod
    def data(cls, material: Material) -> Part:
        """Need nothing but what every run has."""
        return Part()
