"""The classifier that others are made from and compared with: the joint one, or what stands in for it."""

from dataclasses import dataclass
from typing import Any

import torch

from ltrsys.classifiers.base import Classifier
from ltrsys.classifiers.joint import Joint, LinearClassifier
from ltrsys.models.config import HeadName
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.store import load_fitted

STAND_IN = "linear"
"""The classifier that is fitted on the bank where none was trained with the backbone."""


@dataclass(frozen=True)
class ProbeAsJoint(Joint):
    """The linear probe in the place of the joint classifier, in a run without a first stage."""

    name = STAND_IN
    label = "Linear probe"


def reference_name(head: HeadName) -> str:
    """Return the name of the classifier that others are compared with, in a run with this `model.head`."""
    return STAND_IN if head == "none" else Joint.name


def as_joint(probe: Classifier[Any]) -> Joint:
    """Return a linear probe as what other classifiers are made from."""
    assert isinstance(probe, LinearClassifier)
    return ProbeAsJoint(probe.weight_CD, probe.bias_C)


def load_reference(run: RunFolder, head: HeadName, device: torch.device) -> Joint:
    """Return the classifier that others are compared with; where it is the linear probe, one that has been fitted.

    Raises:
        DataError: Where the model or the probe is missing or damaged.
    """
    if head == "none":
        return as_joint(load_fitted(run.classifiers, STAND_IN, device).classifier)
    return Joint.of_model(run.model, device, head)
