"""The CUDA code of `class_sums`, its device functions compiled for a CPU; and the same bits from torch."""

import ctypes
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ltrsys.kernels import reference
from ltrsys.kernels.gpu import class_sums as module
from ltrsys.kernels.gpu.class_sums import SOURCES, build_extension, class_sums, class_sums_in_torch
from ltrsys.kernels.reproducible_sums import Quantum
from tests.kernels.gpu.conftest import random

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SHAPES = [(1, 1, 1), (63, 5, 7), (200, 3, 130), (500, 260, 300)]
"""Rows, classes, columns: less and more than a block of either, most classes with less than a block of rows."""


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Compile the device functions for this machine."""
    library = tmp_path_factory.mktemp("host") / "class_sums.so"
    subprocess.run(
        [
            *("c++", "-std=c++20", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-pthread"),
            *("-I", str(SOURCES[0].parent), "-I", str(Path(torch.__file__).parent / "include")),
            *("-o", str(library), str(Path(__file__).with_name("class_sums_on_host.cpp"))),
        ],
        check=True,
    )
    return ctypes.CDLL(str(library))


def run_on_host(
    library: ctypes.CDLL,
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    quantum: float,
    normalize: bool,
    center: Tensor | None,
    *,
    seed: int = 0,
    host_threads: int = 1,
) -> Tensor:
    """Run the grid that class_sums.cu launches, its blocks in a random order."""
    sorted_labels, order = labels.sort(stable=True)
    rows, columns = features.shape
    row_blocks = -(-rows // library.rows_per_block())
    num_blocks = row_blocks * -(-columns // library.columns_per_block())
    blocks = torch.randperm(num_blocks, generator=torch.Generator().manual_seed(seed))
    sums = torch.zeros(num_classes, columns, dtype=torch.float64)
    function = getattr(library, f"run_{str(features.dtype).removeprefix('torch.')}")
    function(
        *(None if values is None else ctypes.c_void_p(values.data_ptr()) for values in (features, center)),
        ctypes.c_bool(normalize),
        *(ctypes.c_void_p(values.data_ptr()) for values in (order, sorted_labels)),
        *(ctypes.c_int64(number) for number in (rows, columns)),
        ctypes.c_double(Quantum(quantum).shifter),
        ctypes.c_void_p(blocks.data_ptr()),
        *(ctypes.c_int64(number) for number in (row_blocks, num_blocks, host_threads)),
        ctypes.c_void_p(sums.data_ptr()),
    )
    return sums


def example(shape: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, int]:
    """Return features, labels of a long tail that leaves out some classes, and the number of classes."""
    rows, num_classes, columns = shape
    labels = (torch.rand(rows, generator=torch.Generator().manual_seed(1)) ** 3 * num_classes).long()
    return random(rows, columns, dtype=dtype), labels, num_classes


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("centered", [False, True])
def test_the_logic_of_the_cuda_code_gives_the_bits_of_torch(
    on_host: ctypes.CDLL, shape: tuple[int, int, int], dtype: torch.dtype, normalize: bool, centered: bool
) -> None:
    features, labels, num_classes = example(shape, dtype)
    features[0] = 0
    center = random(shape[2], seed=2).double() if centered else None
    quantum = Quantum.of(16.0, shape[0]).value
    arguments = (features, labels, num_classes, quantum, normalize, center)
    sums = run_on_host(on_host, *arguments)
    assert torch.equal(sums, class_sums_in_torch(*arguments))
    moved = features.double() - (0.0 if center is None else center)
    if normalize:
        moved = torch.nn.functional.normalize(moved, eps=torch.finfo(torch.float64).tiny)
    expected = torch.zeros_like(sums).index_add_(0, labels, moved)
    torch.testing.assert_close(sums, expected, rtol=0, atol=shape[0] * quantum)


@pytest.mark.parametrize("normalize", [False, True])
def test_neither_the_order_of_blocks_nor_threads_change_a_bit(on_host: ctypes.CDLL, normalize: bool) -> None:
    features, labels, num_classes = example((500, 40, 300))
    arguments = (features, labels, num_classes, Quantum.of(8.0, 500).value, normalize, None)
    expected = class_sums_in_torch(*arguments)
    for seed in range(10):
        assert torch.equal(run_on_host(on_host, *arguments, seed=seed, host_threads=seed % 4 + 1), expected)


def test_sums_that_are_not_rounded_would_depend_on_the_order(on_host: ctypes.CDLL) -> None:
    features, labels, num_classes = example((500, 3, 300))
    arguments = (features, labels, num_classes, 2.0**-80, True, None)
    results = [run_on_host(on_host, *arguments, seed=seed) for seed in range(5)]
    assert any(not torch.equal(result, results[0]) for result in results)


def test_rows_in_any_order_and_in_blocks_of_any_size_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, num_classes = example((500, 40, 30))
    quantum = Quantum.of(8.0, 500).value
    expected = class_sums(features, labels, num_classes, quantum, True, None)
    shuffled = torch.randperm(500, generator=torch.Generator().manual_seed(5))
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 900)
    assert torch.equal(class_sums(features[shuffled], labels[shuffled], num_classes, quantum, True, None), expected)


def test_sums_are_those_of_the_reference() -> None:
    features, labels, num_classes = example((300, 20, 30))
    quantum = Quantum.of(8.0, 300)
    expected = torch.zeros(num_classes, 30, dtype=torch.float64)
    reference.add_class_sums(expected, features, labels, quantum, False, None)
    assert torch.equal(class_sums(features, labels, num_classes, quantum.value, False, None), expected)


def test_no_row_gives_zeros() -> None:
    assert torch.equal(
        class_sums(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), 2, 1.0, True, None),
        torch.zeros(2, 3, dtype=torch.float64),
    )


def test_without_a_cuda_compiler_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler() -> None:
        raise RuntimeError("nvcc was not found")

    monkeypatch.setattr(module, "build_extension", no_compiler)
    module._extension.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert module._extension() is None
            assert module._extension() is None
    finally:
        module._extension.cache_clear()
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert "nvcc was not found" in record.getMessage()
    assert "torch computes the same sums" in record.getMessage()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc was not found")
def test_the_extension_builds_and_loads(tmp_path: Path) -> None:
    done = subprocess.run(["nvcc", "-dryrun", "x.cu"], capture_output=True, text=True, check=False)
    toolkit = next(line.split("=", 1)[1] for line in done.stderr.splitlines() if line.startswith("#$ TOP="))
    script = f"from {build_extension.__module__} import build_extension; print(build_extension().class_sums.__doc__)"
    environment = {"CUDA_HOME": toolkit, "TORCH_CUDA_ARCH_LIST": "9.0", "XDG_CACHE_HOME": str(tmp_path)}
    built = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr[-3000:]
    assert "class_sums(" in built.stdout
