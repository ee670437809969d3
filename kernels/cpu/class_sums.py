"""Sums of rows by class on a CPU: compiled where there are many rows and a compiler, in torch elsewhere; the same bits.

N rows, C classes, D features.
"""

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from ltrsys.kernels import reference
from ltrsys.kernels.reproducible_sums import Quantum

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("class_sums.cpp")
OPTIONS = ("-O3", "-std=c++17", "-ffp-contract=off", "-fPIC", "-shared", "-pthread")
"""No fused multiply-add: it would round a square differently from the other ways."""
WORTH_COMPILING = 1 << 24
"""Numbers of a call, from which on the code is compiled: that takes seconds, once a machine. Then all calls use it."""


def class_totals(
    features_ND: Tensor, labels_N: Tensor, num_classes: int, quantum: Quantum, normalize: bool, center_D: Tensor | None
) -> Tensor:
    """Sum the rows of each class; see `ltrsys.kernels.class_sums`.

    Returns:
        [C, D], float64 if the features are, else float32.
    """
    num_features = features_ND.shape[1]
    library = _library_for(features_ND)
    if library is None:
        sums_CD = torch.zeros(num_classes, num_features, dtype=torch.float64)
        reference.add_class_sums(sums_CD, features_ND, labels_N, quantum, normalize, center_D)
        return sums_CD if features_ND.dtype == torch.float64 else sums_CD.float()
    totals_CD = torch.empty(num_classes, num_features, dtype=torch.float32)
    _call(library, features_ND, labels_N, num_classes, quantum, normalize, center_D, totals_CD=totals_CD)
    return totals_CD


def add_class_sums(
    sums_CD: Tensor,
    features_ND: Tensor,
    labels_N: Tensor,
    quantum: Quantum,
    normalize: bool,
    center_D: Tensor | None,
) -> None:
    """Add the rows of each class to float64 sums, in place; see `ltrsys.kernels.ClassSums`."""
    library = _library_for(features_ND)
    if library is None:
        reference.add_class_sums(sums_CD, features_ND, labels_N, quantum, normalize, center_D)
    else:
        _call(library, features_ND, labels_N, len(sums_CD), quantum, normalize, center_D, sums_CD=sums_CD)


def _call(
    library: ctypes.CDLL,
    features_ND: Tensor,
    labels_N: Tensor,
    num_classes: int,
    quantum: Quantum,
    normalize: bool,
    center_D: Tensor | None,
    *,
    sums_CD: Tensor | None = None,
    totals_CD: Tensor | None = None,
) -> None:
    features_ND = features_ND.contiguous()
    center_D = None if center_D is None else center_D.double().contiguous()
    sorted_N, order_N = labels_N.sort(stable=True)
    library.ltrsys_class_sums(
        _pointer(features_ND),
        _pointer(center_D),
        _pointer(order_N),
        _pointer(sorted_N),
        ctypes.c_int64(len(features_ND)),
        ctypes.c_int64(features_ND.shape[1]),
        ctypes.c_int64(num_classes),
        ctypes.c_double(quantum.shifter),
        ctypes.c_int32(normalize),
        ctypes.c_int64(torch.get_num_threads()),
        _pointer(sums_CD),
        _pointer(totals_CD),
    )


def _pointer(values: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if values is None else values.data_ptr())


def _library_for(features_ND: Tensor) -> ctypes.CDLL | None:
    """Return the compiled code if it is for such features, and there already or worth making for so many."""
    if features_ND.dtype != torch.float32:
        return None
    return _library() if features_ND.numel() >= WORTH_COMPILING or _path(cache_folder()).exists() else None


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return the code compiled for this machine, now or earlier; None where that cannot be."""
    try:
        return ctypes.CDLL(str(build(cache_folder())))
    except (OSError, subprocess.CalledProcessError) as error:
        log.info("class_sums: no compiled code (%s); torch computes the same sums, more slowly.", error)
        return None


def build(folder: Path) -> Path:
    """Compile the code into a folder, unless it is there, and return its path.

    Raises:
        OSError: Without a compiler, or where the folder cannot be written.
        subprocess.CalledProcessError: If the compiler fails.
    """
    compiler, path = _compiler(), _path(folder)
    if path.exists():
        return path
    if shutil.which(compiler) is None:
        raise FileNotFoundError(f"there is no C++ compiler called {compiler}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        built = Path(beside) / path.name
        subprocess.run([compiler, *OPTIONS, str(SOURCE), "-o", str(built)], check=True, capture_output=True)
        os.replace(built, path)  # whole or absent: other processes may look for it now
    return path


def _compiler() -> str:
    return os.environ.get("CXX", "c++")


def _path(folder: Path) -> Path:
    return folder / f"class_sums-{_digest(_compiler())}.so"


@functools.cache
def _digest(compiler: str) -> str:
    """Name the compiled code for all that it depends on."""
    named_for = [SOURCE.read_text(encoding="utf-8"), compiler, *OPTIONS, os.uname().machine]
    return hashlib.sha256(repr(named_for).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Return where compiled code is kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "ltrsys"
