"""One classifier against another, class by class."""

from ltrsys.pages.model import Part
from ltrsys.pages.panels.base import PANELS, Material, Panel


@PANELS.register
class TwoClassifiers(Panel):
    """A point for each class: its accuracy by the one, and by the other."""

    name = "two_classifiers"
    summary = "one classifier against another, class by class"
    title = "Classifier against classifier"
    explanation = (
        "Each point is a class. Above the diagonal the classifier on the vertical axis recognises more of its images, "
        "below it the other. The lists name the classes that differ most. With few test images in a class, a "
        "difference of one or two of them may be chance."
    )
    order = 40

    @classmethod
    def data(cls, material: Material) -> Part | None:
        """Need two classifiers, and nothing but what every run has."""
        return Part() if len(material.run.fitted) > 1 else None

    missing = "This run has one classifier alone. `ltrsys balance` fits others."
