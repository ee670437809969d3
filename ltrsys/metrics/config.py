"""The section `shots`."""

from pydantic import model_validator

from ltrsys.section import Count, Section


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
