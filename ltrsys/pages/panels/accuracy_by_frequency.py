"""Accuracy against the number of training images, class by class."""

from ltrsys.pages.model import Part
from ltrsys.pages.panels.base import PANELS, Material, Panel


@PANELS.register
class AccuracyByFrequency(Panel):
    """A point for each class of one classifier, and a line of the running mean for each."""

    name = "accuracy_by_frequency"
    summary = "accuracy of each class against its number of training images"
    title = "Rare and frequent classes"
    explanation = (
        "Each point is a class: further right, it has more training images; further up, more of its test images are "
        "recognised. The lines are means over neighbouring classes, one for each classifier. Where a line falls to the "
        "left, rare classes are recognised less often than frequent ones."
    )
    order = 10

    @classmethod
    def data(cls, material: Material) -> Part:
        """Need nothing but what every run has."""
        return Part()
