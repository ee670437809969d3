"""The lengths of the class weights, and what dividing by a power of them does: tau over its grid."""

import numpy as np

from ltrsys.evaluation.predictions import tau_grid
from ltrsys.evaluation.results import TauCurve
from ltrsys.pages.model import Packed, Part, packed
from ltrsys.pages.panels.base import PANELS, Material, Panel


class TauData(Part):
    """tau over its grid."""

    correct: Packed
    """Images of each class that are recognised at each tau, [T, C]."""
    curve: TauCurve
    chosen: float | None
    """The tau of the run's tau-normalised classifier; None where it has none."""


class WeightNormsData(Part):
    """Lengths of weights, and tau."""

    norms: dict[str, Packed]
    """By the name of the classifier: the length of the weight vector of each class, [C]."""
    tau: TauData


@PANELS.register
class WeightNormsAndTau(Panel):
    """Weight norms by class, and the accuracy of every class at each tau."""

    name = "weight_norms_and_tau"
    summary = "weight norms by class, and a slider over tau"
    source = "Kang et al., 2020, Figure 2"
    title = "Weight norms and τ"
    explanation = (
        "A linear classifier compares an image with one weight vector for each class. Trained on a long tail, the "
        "vectors of frequent classes grow longer, and so win too often. Dividing each by its length to the power τ "
        "evens them out: at τ = 0 they are as trained, at τ = 1 all equally long. Move the slider to see what rare "
        "classes gain and frequent ones lose."
    )
    missing = "The classifier of this network compares directions alone: lengths of weights have no meaning here."
    order = 50

    @classmethod
    def data(cls, material: Material) -> Part | None:
        """Need a network with a linear head."""
        run = material.run
        if run.config.model.head not in ("linear", "none"):
            return None
        norms = {
            name: packed(weight.norm(dim=1).cpu().numpy(), "float32")
            for name, fitted in run.fitted.items()
            if fitted.classifier.has_weight_norms and (weight := fitted.classifier.weight()) is not None
        }
        grid = tau_grid(run.config.balance)
        predictions_TN = run.predictions.by_tau(run.joint, run.bank, grid)
        labels, num_classes = run.reported.split.labels, run.dataset.num_classes
        correct = [np.bincount(labels[row == labels], minlength=num_classes) for row in predictions_TN]
        tau = run.results.line("tau")
        return WeightNormsData(
            norms=norms,
            tau=TauData(
                correct=packed(np.stack(correct)),
                curve=run.reported.tau_curve(grid, predictions_TN),
                chosen=None if tau is None else float(tau.params["tau"]),
            ),
        )
