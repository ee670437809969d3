"""The section `shots`, and what is called the best."""

from typing import Literal

from pydantic import model_validator

from ltrsys.section import Count, Section

SelectBy = Literal["mean_class_accuracy", "accuracy"]
"""By what the best on val is chosen: the mean over the classes of their accuracies, or the accuracy over all images."""


class ShotsConfig(Section):
    """How classes are grouped by their number of training images (paper, section 5.1)."""

    many: Count = 100
    """Many-shot classes have more images than this."""
    few: Count = 20
    """Few-shot classes have fewer images than this."""

    @model_validator(mode="after")
    def _ordered(self) -> "ShotsConfig":
        if self.few > self.many:
            raise ValueError(f"few ({self.few}) is not above many ({self.many})")
        return self
