"""Static quantisation to int8 by onnxruntime."""

import ast
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from torch import Tensor

from ltrsys.export.folding import IMAGES, FoldedModel

BATCH = 16
"""Images that ranges are measured on at once."""
QUANTISED = ["Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat"]
"""Products, and what stands between them. BatchNorm that no convolution takes up, norms and softmax keep float32."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch notes at a node which module it comes from."""


def quantised(model: onnx.ModelProto, folded: FoldedModel, images: Tensor) -> onnx.ModelProto:
    """Return the model with the backbone, and a linear classifier, in int8.

    Weights have a scale for each output channel, and 7 bits, with which processors without VNNI do not saturate: the
    answers are the same on all. Activations have a scale for each tensor, from their smallest to their largest value on
    the images. What else the classifier may be, softmax, and normalisation stay float32.

    Args:
        model: As converted, with torch's notes at its nodes, and BatchNorm folded into the convolutions.
        folded: What it was converted from.
        images: As the model takes them, [N, 3, S, S].
    """
    linear = folded.is_linear and all(bool(torch.isfinite(value).all()) for value in folded.classifier.parameters())
    parts = {"backbone", "classifier"} if linear else {"backbone"}
    excluded = [node.name for node in model.graph.node if not parts & set(_scopes(node))]
    add_pre_process_metadata(model)  # else it warns that BatchNorm may not be folded
    with tempfile.TemporaryDirectory(prefix="ltrsys-int8-") as folder:
        path = Path(folder) / "model.onnx"
        quantize_static(
            model,
            path,
            _Batches(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=QUANTISED,
            nodes_to_exclude=excluded,
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},  # logits of 256 levels would tie
        )
        return onnx.load(path)


class _Batches(CalibrationDataReader):
    def __init__(self, images: Tensor) -> None:
        self._batches: Iterator[Tensor] = iter(images.split(BATCH))

    def get_next(self) -> Mapping[str, NDArray[np.generic]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {IMAGES: batch.numpy()}


def _scopes(node: onnx.NodeProto) -> list[str]:
    noted = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    return list(ast.literal_eval(noted))
