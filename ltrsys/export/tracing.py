"""Tracing a model for any number of images."""

import torch
from torch.export import Dim, ExportedProgram

from ltrsys.errors import UsageError
from ltrsys.export.folding import IMAGES
from ltrsys.export.subject import Subject


def example_images(subject: Subject) -> torch.Tensor:
    """Return two images of zeros as the exported model takes them; one alone would be traced as a constant."""
    side = subject.model.signature.preprocessing.image_size
    return torch.zeros(2, 3, side, side, dtype=subject.folded.input_type)


def traced(subject: Subject) -> ExportedProgram:
    """Return the model as a graph of torch's operations.

    Raises:
        UsageError: Where it cannot be traced, as may be so with a network or classifier of one's own.
    """
    shapes = {IMAGES: {0: Dim("batch")}}
    try:
        with torch.no_grad():
            return torch.export.export(subject.folded, (example_images(subject),), dynamic_shapes=shapes)
    except Exception as error:  # torch names no class of them all
        model = subject.model
        why = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise UsageError(
            f"model.backbone={model.config.model.backbone} with the classifier {model.classifier.name} cannot be "
            f"traced by torch.export ({type(error).__name__}: {why}). Where the classifier is your own, give it a "
            "`module` of torch's operations (docs/export.md)."
        ) from error
