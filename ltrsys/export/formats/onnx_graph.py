"""One ONNX file, in float32, float16 or int8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ltrsys.errors import UsageError
from ltrsys.export.formats.base import EXPORTERS, Exporter
from ltrsys.export.subject import Runner, Subject

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

FILE = "model.onnx"
MAX_BYTES = 2**31 - 1
"""Protobuf's limit of a file."""

CODE = """\
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])


def probabilities_of(images):
    return session.run(["probabilities"], {"images": images})[0]
"""


@EXPORTERS.register
class ONNXExporter(Exporter):
    """`model.onnx`: any number of images in, logits and probabilities out, names and preprocessing as metadata."""

    name = "onnx"
    summary = "an ONNX file for onnxruntime and others, with names and preprocessing as metadata"
    source = "ONNX; torch.onnx.export with dynamo"
    order = 10
    precisions = ("float32", "float16", "int8")
    needs = ("onnx", "onnxscript", "onnxruntime")

    @classmethod
    def write(cls, subject: Subject, folder: Path) -> None:
        """Convert the traced model, quantise it for int8, and write it once onnx's checker has passed it."""
        import onnx

        from ltrsys.export.metadata import metadata_of
        from ltrsys.files import replaced

        graph = _converted(subject)
        if subject.precision == "int8":
            from ltrsys.export.int8 import quantised

            assert subject.calibration_images is not None
            graph = quantised(graph, subject.folded, subject.calibration_images)
        for node in graph.graph.node:
            del node.metadata_props[:]  # what torch notes there are places in its and the user's code
        del graph.metadata_props[:]
        onnx.helper.set_model_props(graph, metadata_of(subject))
        onnx.checker.check_model(graph, full_check=True)
        with replaced(folder / FILE) as file:
            file.write(graph.SerializeToString())

    @classmethod
    def open(cls, folder: Path) -> Runner:
        """Load it into onnxruntime, on the CPU."""
        import torch

        from ltrsys.export.folding import IMAGES, PROBABILITIES
        from ltrsys.export.onnx_sessions import session_of

        session = session_of(folder / FILE)

        def run(images: Tensor) -> Tensor:
            (probabilities,) = session.run([PROBABILITIES], {IMAGES: images.numpy()})
            return torch.from_numpy(probabilities)

        return run

    @classmethod
    def loading_code(cls, subject: Subject) -> str:
        """Return the code."""
        return CODE


def _converted(subject: Subject) -> Any:
    """Return the model as onnx's `ModelProto`, still with torch's notes at each node."""
    import torch
    from torch.onnx.errors import OnnxExporterError

    from ltrsys.export.folding import IMAGES, LOGITS, PROBABILITIES
    from ltrsys.export.tracing import traced

    size = sum(tensor.nbytes for tensor in subject.folded.state_dict().values())
    if size > MAX_BYTES:
        raise UsageError(
            f"--format onnx: {size / 1e9:.1f} GB of weights do not fit into one ONNX file, which holds up to "
            f"{MAX_BYTES / 1e9:.1f} GB. Use --float16, or --format torch."
        )
    try:
        program = torch.onnx.export(
            traced(subject),
            input_names=[IMAGES],
            output_names=[LOGITS, PROBABILITIES],
            dynamo=True,
            verbose=False,
        )
    except OnnxExporterError as error:
        why = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise UsageError(
            f"--format onnx: model.backbone={subject.model.config.model.backbone} with the classifier "
            f"{subject.model.classifier.name} cannot be converted ({why}). Use --format torch."
        ) from error
    assert program is not None
    return program.model_proto
