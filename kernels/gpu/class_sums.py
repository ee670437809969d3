"""Sums of rows by class on a GPU, with the bits that a CPU gives.

N rows, C classes, D features.
"""

import functools
import importlib.util
import logging
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from ltrsys.kernels.cpu.class_sums import cache_folder
from ltrsys.kernels.devices import runs_cuda
from ltrsys.kernels.reproducible_sums import Quantum, normalized

log = logging.getLogger(__name__)

SOURCES = [Path(__file__).with_name("cuda") / name for name in ("class_sums.cu", "class_sums_binding.cpp")]
BUILT_AT_INSTALLATION = "ltrsys.kernels.gpu._class_sums"
"""The module that `LTRSYS_BUILD_CUDA=1 pip install` builds."""
BLOCK_ELEMENTS = 1 << 24
"""Numbers that are held in float64 at once without the extension: 128 MiB."""


def class_sums(
    features_ND: Tensor, labels_N: Tensor, num_classes: int, quantum: float, normalize: bool, center_D: Tensor | None
) -> Tensor:
    """Sum the rows of each class, each number rounded to a multiple of `quantum`, so that the additions are exact.

    Args:
        features_ND: float32, float64, bfloat16 or float16, contiguous.
        labels_N: int64, each at least 0 and below C.
        num_classes: C.
        quantum: A power of two, as `kernels/reproducible_sums.py` chooses it.
        normalize: Divide each row, moved by the center, by its length first; zero stays zero.
        center_D: Subtracted from each row first, float64.

    Returns:
        float64 [C, D].
    """
    extension = _extension() if runs_cuda(features_ND.device) else None
    if extension is None:
        return class_sums_in_torch(features_ND, labels_N, num_classes, quantum, normalize, center_D)
    sums_CD = torch.zeros(num_classes, features_ND.shape[1], dtype=torch.float64, device=features_ND.device)
    if features_ND.numel():
        sorted_N, order_N = labels_N.sort(stable=True)
        center_D = None if center_D is None else center_D.contiguous()
        shifter = Quantum(quantum).shifter
        extension.class_sums(features_ND, center_D, normalize, order_N, sorted_N, shifter, sums_CD)
    return sums_CD


def class_sums_in_torch(
    features_ND: Tensor, labels_N: Tensor, num_classes: int, quantum: float, normalize: bool, center_D: Tensor | None
) -> Tensor:
    """Do the same, to the bit, on any device without the extension."""
    sums_CD = torch.zeros(num_classes, features_ND.shape[1], dtype=torch.float64, device=features_ND.device)
    step = max(1, BLOCK_ELEMENTS // max(1, features_ND.shape[1]))
    for block_ND, block_N in zip(features_ND.split(step), labels_N.split(step), strict=True):
        values_ND = block_ND.to(torch.float64, copy=True)
        if center_D is not None:
            values_ND -= center_D
        if normalize:
            values_ND = normalized(values_ND)
        # the additions are exact: the order in which a GPU makes them does not matter
        sums_CD.index_add_(0, block_N, Quantum(quantum).round_(values_ND))
    return sums_CD


@functools.cache
def _extension() -> ModuleType | None:
    """Return the compiled extension: as installed, or built now where there is a CUDA compiler, else None."""
    if importlib.util.find_spec(BUILT_AT_INSTALLATION) is not None:
        return importlib.import_module(BUILT_AT_INSTALLATION)
    try:
        return build_extension()
    except Exception as error:  # whatever stops a compiler: there is another way to the same bits
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        log.warning(
            "class_sums: its CUDA code could not be built (%s); torch computes the same sums, more slowly. "
            "Install CUDA's nvcc and set CUDA_HOME to its toolkit, or install ltrsys with LTRSYS_BUILD_CUDA=1.",
            reason,
        )
        return None


def build_extension() -> ModuleType:
    """Build the extension for the GPUs that are there, or for TORCH_CUDA_ARCH_LIST, and import it.

    Raises:
        RuntimeError: Without a CUDA compiler, or if the compilation fails.
        OSError: Likewise.
    """
    from torch.utils.cpp_extension import CUDA_HOME

    from ltrsys.kernels.gpu.extension import load_extension

    if CUDA_HOME is None:
        raise RuntimeError("nvcc was not found")
    return load_extension("ltrsys_class_sums", SOURCES, cache_folder())
