"""A program of `torch.export`, and its tensors beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ltrsys.export.formats.base import EXPORTERS, Exporter
from ltrsys.export.subject import Runner, Subject

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

PROGRAM, TENSORS = "model.pt2", "model.safetensors"

CODE = """\
import torch

program = torch.export.load("model.pt2").module()


def probabilities_of(images):
    with torch.inference_mode():
        logits, probabilities = program(torch.from_numpy(images))
    return probabilities.numpy()
"""


@EXPORTERS.register
class TorchExporter(Exporter):
    """`model.pt2`, which torch alone loads and runs, and the same tensors in `model.safetensors`."""

    name = "torch"
    summary = "a program of torch.export, which needs torch alone, and its tensors"
    source = "torch.export; safetensors"
    order = 20

    @classmethod
    def write(cls, subject: Subject, folder: Path) -> None:
        """Trace the model for any number of images, and write both files."""
        import io

        import torch

        from ltrsys.export.metadata import metadata_of
        from ltrsys.export.tracing import traced
        from ltrsys.files import replaced
        from ltrsys.models.stored.weights import save_tensors

        program, metadata = traced(subject), metadata_of(subject)
        buffer = io.BytesIO()  # torch's own errors do not say that a disk is full
        torch.export.save(program, buffer, extra_files=metadata)
        with replaced(folder / PROGRAM) as file:
            file.write(buffer.getbuffer())
        save_tensors(dict(subject.folded.state_dict()), folder / TENSORS, metadata)

    @classmethod
    def open(cls, folder: Path) -> Runner:
        """Load the program."""
        import torch

        program = torch.export.load(folder / PROGRAM).module()

        def run(images: Tensor) -> Tensor:
            with torch.inference_mode():
                probabilities: Tensor = program(images)[1]
            return probabilities

        return run

    @classmethod
    def loading_code(cls, subject: Subject) -> str:
        """Return the code."""
        return CODE
