"""The paper's Figure 3: how often each strategy of sampling draws each class."""

from pathlib import Path

from ltrsys.data.reading.opening import open_dataset
from ltrsys.errors import UsageError
from ltrsys.reporting.sampling import plot_sampling_by_epoch
from ltrsys.studies.figures.base import FIGURES, Figure, Material
from ltrsys.studies.study import OpenStudy


@FIGURES.register
class SamplingWeights(Figure):
    """Of the class counts and the epochs of the study's one run, which need not be trained."""

    name = "sampling_weights"
    summary = "how often each class is drawn by the four strategies; of class counts alone"
    source = "Kang et al., 2020, Figure 3"
    order = 30
    needs_rows = False

    @classmethod
    def check(cls, study: OpenStudy) -> None:
        """Refuse several runs, of which each could have shards of its own."""
        if len(study.study.runs) > 1:
            raise UsageError(
                f"{study.path}: figure: {cls.name} is of the class counts of one run, and there are "
                f"{len(study.study.runs)}. Leave one."
            )

    @classmethod
    def draw(cls, material: Material, path: Path) -> None:
        """Draw both panels."""
        config = material.study.trainings[0].config
        plot_sampling_by_epoch(open_dataset(config.data).split("train").class_counts, config.train.epochs, path)
