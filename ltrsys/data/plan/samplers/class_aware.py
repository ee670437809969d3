"""Class-aware sampling: class-balanced, some images of a class together in a batch."""

from ltrsys.data.plan.samplers.base import SAMPLERS
from ltrsys.data.plan.samplers.powers import ClassBalanced
from ltrsys.section import Count


@SAMPLERS.register
class ClassAware(ClassBalanced):
    """Class-balanced, with `samples_per_draw` images of a class in the same batch."""

    name = "class_aware"
    summary = "class-balanced, with k images of a class in the same batch"
    source = "Shen et al., 2016; the code of Kang et al., 2020"
    order = 60
    samples_per_draw: Count = 4
    """How many images of a class come together in a batch, dealt to its micro-batches."""

    @property
    def images_per_draw(self) -> int:
        """As configured."""
        return self.samples_per_draw
