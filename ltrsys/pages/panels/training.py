"""The curves of the training, from `metrics.jsonl`."""

import math

import numpy as np

from ltrsys.pages.model import Part
from ltrsys.pages.panels.base import PANELS, Material, Panel
from ltrsys.runs.metric_names import EPOCH, STEP
from ltrsys.runs.metrics_file import read_metrics

MOST_POINTS = 400
"""Of a curve; of one that has more, neighbours are averaged."""


class Curve(Part):
    """One quantity over the epochs."""

    name: str
    epoch: list[float]
    value: list[float]


class TrainingData(Part):
    """All curves, in the order in which they were first logged."""

    curves: list[Curve]


@PANELS.register
class Training(Panel):
    """Loss, learning rate, accuracy on val and what else was logged."""

    name = "training"
    summary = "loss, accuracy on val and learning rate over the epochs"
    title = "Training"
    explanation = (
        "How the training of the network went, before its classifier was re-balanced. The loss should fall and level "
        "off; accuracies are those of the classifier as trained, on the val images, in per cent."
    )
    missing = "There is no metrics.jsonl in this run: it was imported, or the file was removed."
    order = 70

    @classmethod
    def data(cls, material: Material) -> Part | None:
        """Need metrics with an epoch."""
        points: dict[str, tuple[list[float], list[float]]] = {}
        for line in read_metrics(material.run.run.metrics):
            epoch = line.pop(EPOCH.key, None)
            for name, value in line.items():
                if epoch is not None and isinstance(value, int | float) and math.isfinite(value) and name != STEP.key:
                    epochs, values = points.setdefault(name, ([], []))
                    epochs.append(epoch)
                    values.append(value)
        if not points:
            return None
        return TrainingData(curves=[_curve(name, *both) for name, both in points.items()])


def _curve(name: str, epochs: list[float], values: list[float]) -> Curve:
    parts = min(MOST_POINTS, len(epochs))
    return Curve(
        name=name,
        epoch=[round(float(part.mean()), 4) for part in np.array_split(np.array(epochs), parts)],
        value=[float(f"{part.mean():.6g}") for part in np.array_split(np.array(values), parts)],
    )
