"""How sure the answers are, and how right that is."""

from ltrsys.evaluation.results import CalibrationLine
from ltrsys.pages.model import Part
from ltrsys.pages.panels.base import PANELS, Material, Panel


class ClassifierCalibration(Part):
    """One classifier."""

    place: int
    """Among the classifiers of the run."""
    measured: CalibrationLine
    """As `results.json` has it."""


class CalibrationData(Part):
    """All classifiers whose calibration was measured."""

    classifiers: list[ClassifierCalibration]


@PANELS.register
class Calibration(Panel):
    """Reliability diagrams, what a wanted precision takes, and how large prediction sets are."""

    name = "calibration"
    summary = "how sure the answers are, and how right that is"
    title = "How sure it is"
    explanation = (
        "Of answers with a probability of 80 %, 80 % should be right: the nearer a line is to the diagonal, the more "
        "its probabilities can be trusted. The tables tell how many photographs are answered if only sure answers are "
        "given, and how many names it takes for the right one to be among them for nine photographs of ten."
    )
    missing = "This was not measured. `ltrsys balance` with balance.calibrate=true does it."
    order = 60

    @classmethod
    def data(cls, material: Material) -> Part | None:
        """Need a line that was calibrated."""
        lines = material.run.results.results
        known = [
            ClassifierCalibration(place=place, measured=line.calibration)
            for place, line in enumerate(lines)
            if line.calibration is not None
        ]
        return CalibrationData(classifiers=known) if known else None
